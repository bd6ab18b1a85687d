//! The window without a display: Xvfb keeps its picture in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_tests::Workshop;

use crate::{child, workspace};

/// Cold, the window alone takes two to three minutes to build.
const BUILD: Duration = Duration::from_secs(900);
/// How long the first paint may take with software rendering.
const PAINT: Duration = Duration::from_secs(60);
/// Nobody else's in the lab, which has its own /tmp.
const DISPLAY: &str = ":77";

/// The program, or why it cannot be built here.
pub fn build() -> Result<PathBuf, String> {
    if let Some(reason) = workspace::without_webkit() {
        return Err(reason);
    }
    if workspace::find("Xvfb").is_none() || workspace::find("dbus-run-session").is_none() {
        return Err("Xvfb or dbus-run-session is not installed".into());
    }
    workspace::build_page()?;
    println!("… build the window");
    let output = child::output_of("run build the window");
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--package", "rcc-desktop"]);
    match child::run(&mut cargo, &output, BUILD) {
        Ok(child::End::Good) => Ok(workspace::programs().join("rcc-desktop")),
        Ok(_) => Err(format!("it does not build, see {}", output.display())),
        Err(error) => Err(error.to_string()),
    }
}

/// Shows the window as ann and answers where its picture is.
pub fn show(workshop: &Workshop, program: &Path) -> anyhow::Result<PathBuf> {
    let own = rcc_tests::Lab::program("rcc-desktop");
    fs::copy(program, &own).with_context(|| format!("copy {}", program.display()))?;
    // X keeps sockets and locks in /tmp; the machine's own stays as it is, and what is
    // written here is written there, also when the project lies in /tmp.
    let outputs = workspace::outputs();
    let target = outputs.parent().context("no target folder")?.display();
    workshop.lab.on_host(&format!(
        "mkdir /run/rcc-lab/target && mount --bind '{target}' /run/rcc-lab/target &&
         mount -t tmpfs -o mode=1777 lab /tmp && mkdir -m 1777 /tmp/.X11-unix &&
         mkdir -p '{target}' && mount --bind /run/rcc-lab/target '{target}'"
    ))?;
    let folder = workshop.project("screen")?;
    let log = |name: &str| -> anyhow::Result<Stdio> {
        Ok(fs::File::create(workspace::outputs().join(name))?.into())
    };
    let arguments =
        [DISPLAY, "-screen", "0", "1100x720x24", "-nolisten", "tcp", "-noreset", "-fbdir", "."];
    let screen = workshop
        .ann(&folder, "Xvfb", &arguments)
        .stdin(Stdio::null())
        .stdout(log("xvfb.log")?)
        .stderr(log("xvfb-errors.log")?)
        .spawn()?;
    let _screen = Ending(screen);
    let socket = Path::new("/tmp/.X11-unix/X77");
    rcc_tests::wait_for(|| socket.exists()).context("Xvfb did not start")?;
    let window = workshop
        .ann(&folder, "dbus-run-session", &["--", &own.to_string_lossy()])
        .env("DISPLAY", DISPLAY)
        .env("GDK_BACKEND", "x11")
        .env("WEBKIT_DISABLE_DMABUF_RENDERER", "1")
        .env("LIBGL_ALWAYS_SOFTWARE", "1")
        .env("NO_AT_BRIDGE", "1")
        .stdin(Stdio::null())
        .stdout(log("window.log")?)
        .stderr(log("window-errors.log")?)
        .spawn()?;
    let mut window = Ending(window);
    let buffer = folder.join("Xvfb_screen0");
    let deadline = Instant::now() + PAINT;
    let picture = loop {
        sleep(Duration::from_millis(500));
        if let Some(status) = window.0.try_wait()? {
            let log = child::tail(&workspace::outputs().join("window-errors.log"), 10);
            anyhow::bail!("it ended with {status}: {log}");
        }
        let picture = Picture::read(&fs::read(&buffer)?)?;
        if picture.colours() > 24 {
            // Fonts and icons come a moment after the first paint.
            sleep(Duration::from_secs(2));
            break Picture::read(&fs::read(&buffer)?)?;
        }
        ensure!(Instant::now() < deadline, "nothing was painted in {} s", PAINT.as_secs());
    };
    let path = workspace::outputs().with_file_name("run").join("window.png");
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    picture.write(&path)?;
    Ok(path)
}

struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Rows of red, green, blue.
struct Picture {
    width: u32,
    height: u32,
    bytes: Vec<u8>,
}

impl Picture {
    /// Reads what Xvfb keeps: the file format of xwd(1), 32 bits a pixel.
    fn read(file: &[u8]) -> anyhow::Result<Self> {
        let number = |index: usize| -> anyhow::Result<u32> {
            let bytes = file.get(index * 4..index * 4 + 4).context("the picture is cut off")?;
            Ok(u32::from_be_bytes(bytes.try_into()?))
        };
        // XWDFile.h: header size, version, format, depth, width, height, …
        ensure!(number(1)? == 7, "not a picture of xwd");
        let (width, height) = (number(4)?, number(5)?);
        let (little, bits, line) = (number(7)? == 0, number(11)?, number(12)?);
        ensure!(bits == 32, "{bits} bits a pixel");
        let start = usize::try_from(number(0)? + number(19)? * 12)?;
        let mut bytes = Vec::new();
        for row in 0..height {
            let row = start + usize::try_from(row * line)?;
            let row = file.get(row..row + usize::try_from(width * 4)?);
            for pixel in row.context("the picture is cut off")?.chunks_exact(4) {
                match (little, pixel) {
                    (true, [blue, green, red, _]) | (false, [_, red, green, blue]) => {
                        bytes.extend([*red, *green, *blue]);
                    }
                    _ => {}
                }
            }
        }
        Ok(Self { width, height, bytes })
    }

    /// How many different ones there are; an empty screen has one or two.
    fn colours(&self) -> usize {
        let pixels = self.bytes.chunks_exact(3);
        pixels.collect::<std::collections::HashSet<_>>().len()
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let file = fs::File::create(path).with_context(|| format!("write {}", path.display()))?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_xwd_are_read() {
        let mut header = [0u32; 25];
        header[0] = 100;
        header[1] = 7;
        header[4] = 2;
        header[5] = 1;
        header[11] = 32;
        header[12] = 8;
        header[19] = 1;
        let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        file.extend([0; 12]);
        file.extend([1, 2, 3, 0, 4, 5, 6, 0]);
        let picture = Picture::read(&file).expect("a picture");
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.bytes, [3, 2, 1, 6, 5, 4]);
        assert_eq!(picture.colours(), 2);
        assert!(Picture::read(&file[..110]).is_err());
        assert!(Picture::read(b"").is_err());
    }
}
