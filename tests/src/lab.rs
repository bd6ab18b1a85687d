//! Setting up and taking down.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;

use crate::actor::Actor;
use crate::internet::{DnsServer, Echo, Zone};

/// A reason why a test cannot run on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

/// Says that a test did not run, and why.
pub fn skip(reason: &Skip) {
    rcc_test_aids::skip(&reason.0);
}

/// People of the lab: uid and name. They exist only in the lab's /etc/passwd.
pub const ANN: (u32, &str) = (4_001, "ann");
/// Another one.
pub const BOB: (u32, &str) = (4_002, "bob");
const RESOLVER: (u32, &str) = (4_900, "rcc-resolver");

/// The network namespace of the calling thread.
pub(crate) const OWN_NETWORK: &str = "/proc/thread-self/ns/net";

/// What a lab starts with.
#[derive(Default)]
pub struct Options {
    /// The administrator's file; `None` for none.
    pub policy: Option<String>,
    /// The host's name server stands at a loopback address, as systemd-resolved does.
    pub upstream_on_loopback: bool,
    /// No gate at first: `rcc-helper apply` has not run.
    pub without_gate: bool,
}

/// See the crate.
pub struct Lab {
    folder: tempfile::TempDir,
    processes: Vec<Child>,
    /// The played internet's name server.
    pub dns: DnsServer,
    /// The played servers.
    pub echo: Echo,
}

/// Addresses of the played world.
pub mod world {
    use std::net::Ipv4Addr;
    /// The host on the internet's link, and on the LAN's.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    pub const HOST_ON_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 2);
    /// The router, which is also the name server.
    pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    /// Servers on the internet.
    pub const SERVERS: [Ipv4Addr; 4] = [
        Ipv4Addr::new(203, 0, 113, 9),
        Ipv4Addr::new(203, 0, 113, 10),
        Ipv4Addr::new(203, 0, 113, 11),
        Ipv4Addr::new(198, 51, 100, 7),
    ];
    /// A machine on the LAN.
    pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 10);
}

impl Lab {
    /// Makes the calling thread the host of a lab of its own.
    pub fn start(options: Options) -> anyhow::Result<Result<Self, Skip>> {
        if let Some(reason) = missing() {
            return Ok(Err(Skip(reason)));
        }
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("unshare")?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        let folder = tempfile::Builder::new().prefix("rcc-lab").tempdir_in("/var/tmp")?;
        mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        // Binaries and folders under /run must be reachable by people.
        fs::set_permissions("/run", fs::Permissions::from_mode(0o755))?;
        for (name, path) in [("etc", "/etc"), ("polkit", "/usr/share/polkit-1")] {
            overlay(name, Path::new(path))?;
        }
        people()?;
        fs::create_dir_all("/etc/rcc")?;
        if let Some(policy) = &options.policy {
            fs::write("/etc/rcc/network-whitelist.yaml", policy)?;
        }
        let server = if options.upstream_on_loopback {
            "127.0.0.53".to_owned()
        } else {
            world::ROUTER.to_string()
        };
        // Often a link into /run, which is empty here.
        let _ = fs::remove_file("/etc/resolv.conf");
        fs::write("/etc/resolv.conf", format!("nameserver {server}\n"))?;
        run(Command::new("sh").args(["-c", &links()]))?;
        let (own, other) = (Path::new(OWN_NETWORK), Path::new("/run/netns"));
        let echo = Echo::start(own, other)?;
        let dns = if options.upstream_on_loopback {
            DnsServer::start(own, "127.0.0.53:53".parse()?)?
        } else {
            DnsServer::start(&other.join("internet"), SocketAddr::from((world::ROUTER, 53)))?
        };
        let mut lab = Self { folder, processes: Vec::new(), dns, echo };
        lab.install()?;
        lab.start_bus()?;
        if !options.without_gate {
            lab.apply()?;
        }
        Ok(Ok(lab))
    }

    /// Runs `rcc-helper apply`.
    pub fn apply(&self) -> anyhow::Result<()> {
        run(Command::new(Self::program("rcc-helper")).arg("apply"))
    }

    /// A program as it was built, at a place that everybody can reach.
    pub fn program(name: &str) -> PathBuf {
        Path::new("/run/rcc-lab/bin").join(name)
    }

    /// A folder that goes with the lab.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn install(&self) -> anyhow::Result<()> {
        let bin = Path::new("/run/rcc-lab/bin");
        fs::create_dir_all(bin)?;
        for name in ["rcc-helper", "rcc-actor"] {
            let built = built(name)?;
            fs::copy(&built, bin.join(name))
                .with_context(|| format!("copy {}", built.display()))?;
        }
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::copy(
            project.join("polkit/dev.rcc.helper.policy"),
            "/usr/share/polkit-1/actions/dev.rcc.helper.policy",
        )?;
        let services = Path::new("/run/rcc-lab/services");
        fs::create_dir_all(services)?;
        let service = fs::read_to_string(project.join("dbus/dev.rcc.Helper1.service"))?;
        let program = Self::program("rcc-helper");
        let service = service
            .replace("/usr/lib/rcc/rcc-helper", &program.to_string_lossy())
            .lines()
            .filter(|line| !line.starts_with("SystemdService"))
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(services.join("dev.rcc.Helper1.service"), service + "\n")?;
        let rules = Path::new("/run/rcc-lab/system.d");
        fs::create_dir_all(rules)?;
        fs::copy(project.join("dbus/dev.rcc.Helper1.conf"), rules.join("dev.rcc.Helper1.conf"))?;
        let polkit = "org.freedesktop.PolicyKit1.conf";
        fs::copy(Path::new("/usr/share/dbus-1/system.d").join(polkit), rules.join(polkit))?;
        fs::write("/run/rcc-lab/bus.conf", BUS)?;
        Ok(())
    }

    fn start_bus(&mut self) -> anyhow::Result<()> {
        fs::create_dir_all("/run/dbus")?;
        let log = || -> io::Result<Stdio> {
            let path = Path::new("/run/rcc-lab/service.log");
            Ok(fs::OpenOptions::new().create(true).append(true).open(path)?.into())
        };
        let bus = Command::new("dbus-daemon")
            .args(["--config-file=/run/rcc-lab/bus.conf", "--nofork", "--nopidfile", "--nosyslog"])
            .env("RCC_LOG", "debug")
            .stdout(log()?)
            .stderr(log()?)
            .spawn()?;
        self.processes.push(bus);
        wait_for(|| Path::new("/run/dbus/system_bus_socket").exists())
            .context("the bus did not start")?;
        let polkit = Command::new("/usr/lib/polkit-1/polkitd")
            .arg("--no-debug")
            .stdout(Stdio::null())
            .stderr(log()?)
            .spawn()?;
        self.processes.push(polkit);
        // A call before polkit owns its name would be refused, as it must be.
        wait_for(|| {
            let args = [
                "--system",
                "--print-reply",
                "--dest=org.freedesktop.DBus",
                "/",
                "org.freedesktop.DBus.GetNameOwner",
                "string:org.freedesktop.PolicyKit1",
            ];
            let status = Command::new("dbus-send")
                .args(args)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        })
        .context("polkit did not start")
    }

    /// What bus, polkit and helper wrote.
    pub fn log(&self) -> String {
        fs::read_to_string("/run/rcc-lab/service.log").unwrap_or_default()
    }

    /// A person at the bus.
    pub fn person(&self, who: (u32, &str)) -> anyhow::Result<Actor> {
        Actor::start(who.0)
    }

    /// A person whose process lives in another network namespace of the lab.
    pub fn person_in(&self, who: (u32, &str), namespace: &str) -> anyhow::Result<Actor> {
        in_namespace(&Path::new("/run/netns").join(namespace), || Actor::start(who.0))?
    }

    /// Process id of the helper; `None` while it does not run.
    pub fn helper(&self) -> Option<Pid> {
        self.processes_of("rcc-helper", &[]).first().copied()
    }

    /// Process id of polkit.
    pub fn polkit(&self) -> Pid {
        let found = self.processes_of("polkitd", &["--no-debug"]);
        *found.first().expect("polkit was started")
    }

    /// Process id of the resolver's child.
    pub fn resolver(&self) -> Option<Pid> {
        self.processes_of("rcc-helper", &["resolver"]).first().copied()
    }

    fn processes_of(&self, program: &str, arguments: &[&str]) -> Vec<Pid> {
        let own = fs::read_link("/proc/thread-self/ns/mnt").ok();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok() == own)
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words: Vec<_> =
                    line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
                let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
                exe.file_name().is_some_and(|name| name == program)
                    && words.iter().skip(1).filter(|word| !word.is_empty()).eq(arguments.iter())
            })
            .map(Pid::from_raw)
            .collect()
    }

    /// Runs a program on the host of the lab and answers what it wrote.
    pub fn on_host(&self, command: &str) -> anyhow::Result<String> {
        shell(Command::new("sh").args(["-c", command]))
    }

    /// The same in the gate.
    pub fn in_gate(&self, command: &str) -> anyhow::Result<String> {
        shell(Command::new("ip").args(["netns", "exec", "rcc", "sh", "-c", command]))
    }

    /// Plugs a sandbox of `person` in, with these rules.
    pub fn sandbox(&self, person: &mut Actor, rules: &[rcc_dbus::Rule]) -> anyhow::Result<Sandbox> {
        let sandbox = self.bare_sandbox(person)?;
        let offer = person.attach(sandbox.pid, rules)?;
        sandbox.configure(offer)
    }

    /// A namespace of `person` without a link.
    pub fn bare_sandbox(&self, person: &mut Actor) -> anyhow::Result<Sandbox> {
        let pid = person.make_namespace()?;
        Ok(Sandbox { pid, id: 0, address: Ipv4Addr::UNSPECIFIED })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for pid in self
            .processes_of("rcc-helper", &[])
            .into_iter()
            .chain(self.processes_of("rcc-helper", &["resolver"]))
        {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A network namespace that plays a container.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// A process that lives in it.
    pub pid: u32,
    /// The attachment's number.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Sandbox {
    /// Sets the sandbox's own end up, as the user's side does.
    pub fn configure(self, offer: rcc_dbus::Attachment) -> anyhow::Result<Self> {
        let address: Ipv4Addr = offer.address4.parse()?;
        let commands = format!(
            "ip link set lo up && ip addr add {address}/32 dev eth0 && ip link set eth0 up && \
             ip neigh add {gateway} lladdr {mac} dev eth0 nud permanent && \
             ip route add {gateway} dev eth0 scope link && ip route add default via {gateway}",
            gateway = offer.gateway4,
            mac = offer.gateway_mac,
        );
        self.shell(&commands)?;
        Ok(Self { id: offer.id, address, ..self })
    }

    /// Runs a command in the sandbox's network, with root's rights there: more
    /// than an agent ever has.
    pub fn shell(&self, command: &str) -> anyhow::Result<String> {
        let target = self.pid.to_string();
        shell(Command::new("nsenter").args(["-t", &target, "-n", "sh", "-c", command]))
    }

    /// Runs `job` on a thread in the sandbox's network.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        in_namespace(Path::new(&format!("/proc/{}/ns/net", self.pid)), job)
            .expect("enter the sandbox")
    }

    /// Opens a connection and reads what the server says first.
    pub fn tcp(&self, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
        let to = SocketAddr::new(address.into(), port);
        self.run(|| Echo::greeting(&TcpStream::connect_timeout(&to, PATIENCE)?))
    }

    /// Sends a datagram and waits for an answer.
    pub fn udp(&self, address: impl Into<IpAddr>, port: u16) -> io::Result<String> {
        let to = SocketAddr::new(address.into(), port);
        self.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"hello")?;
            let mut answer = [0; 2_048];
            let length = socket.recv(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        })
    }

    /// Looks a name up at the gate: addresses, or the name of the failure.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        self.ask(name, "A")
    }

    /// Asks the gate for records of a kind.
    pub fn ask(&self, name: &str, kind: &str) -> Result<Vec<IpAddr>, String> {
        let server = SocketAddr::from(([169, 254, 1, 1], 53));
        self.run(|| crate::internet::ask(server, name, kind, false))
    }

    /// Looks a name up and connects to the first address.
    pub fn reach(&self, name: &str, port: u16) -> Result<String, String> {
        let addresses = self.resolve(name)?;
        let first = addresses.first().ok_or("no address")?;
        self.tcp(*first, port).map_err(|error| error.kind().to_string())
    }
}

/// How long a connection may take before it counts as silent.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

/// Runs `job` on a thread in another network namespace.
pub fn in_namespace<T: Send>(path: &Path, job: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    let namespace = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(job())
        });
        match thread.join() {
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What the machine lacks for a lab, in words.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the lab needs root, for namespaces".into());
    }
    for program in [
        "/usr/sbin/nft",
        "/usr/lib/polkit-1/polkitd",
        "/usr/bin/dbus-daemon",
        "/usr/bin/dbus-send",
        "/usr/bin/nsenter",
    ] {
        if !Path::new(program).exists() {
            return Some(format!("{program} is not installed"));
        }
    }
    let namespaces = Command::new("unshare")
        .args(["--net", "--mount", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !namespaces.is_ok_and(|status| status.success()) {
        return Some("this machine does not let root make namespaces".into());
    }
    built("rcc-helper").and_then(|_| built("rcc-actor")).err().map(|error| error.to_string())
}

/// A program of the workspace, beside the test that runs.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found =
        own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.with_context(|| format!("{name} is not built; run `cargo build --workspace` first"))
}

fn overlay(name: &str, over: &Path) -> anyhow::Result<()> {
    let base = Path::new("/run/rcc-lab").join(name);
    let (upper, work) = (base.join("upper"), base.join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        over.display(),
        upper.display(),
        work.display()
    );
    mount(Some("overlay"), over, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mount an overlay on {}", over.display()))
}

fn people() -> anyhow::Result<()> {
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    let mut group = fs::read_to_string("/etc/group")?;
    let mut ranges = String::new();
    for (number, (uid, name)) in [ANN, BOB, RESOLVER].into_iter().enumerate() {
        passwd += &format!("{name}:x:{uid}:{uid}::/run/rcc-lab/home/{name}:/bin/sh\n");
        group += &format!("{name}:x:{uid}:\n");
        ranges += &format!("{name}:{}:65536\n", 1_000_000 + 100_000 * number);
        let home = Path::new("/run/rcc-lab/home").join(name);
        fs::create_dir_all(&home)?;
        std::os::unix::fs::chown(&home, Some(uid), Some(uid))?;
        let runtime = PathBuf::from(format!("/run/user/{uid}"));
        fs::create_dir_all(&runtime)?;
        std::os::unix::fs::chown(&runtime, Some(uid), Some(uid))?;
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
    }
    fs::write("/etc/passwd", passwd)?;
    fs::write("/etc/group", group)?;
    fs::write("/etc/subuid", &ranges)?;
    fs::write("/etc/subgid", &ranges)?;
    Ok(())
}

/// Links of the computer that calls it to a played internet and LAN, for sh(1).
pub fn links() -> String {
    let servers =
        world::SERVERS.map(|address| format!("ip -n internet addr add {address}/32 dev lo"));
    format!(
        "set -e
         mkdir -p /run/netns
         ip link set lo up
         ip netns add internet; ip netns add lan
         ip -n internet link set lo up; ip -n lan link set lo up
         ip link add eth0 type veth peer name eth0 netns internet
         ip link add lan0 type veth peer name eth0 netns lan
         ip addr add {host}/24 dev eth0; ip link set eth0 up
         ip addr add {host_lan}/24 dev lan0; ip link set lan0 up
         ip -n internet addr add {router}/24 dev eth0; ip -n internet link set eth0 up
         ip -n lan addr add {neighbour}/24 dev eth0; ip -n lan link set eth0 up
         {servers}
         ip route add default via {router}
         ip -n lan route add default via {host_lan}",
        host = world::HOST,
        host_lan = world::HOST_ON_LAN,
        router = world::ROUTER,
        neighbour = world::NEIGHBOUR,
        servers = servers.join("; "),
    )
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    shell(command).map(drop)
}

pub(crate) fn shell(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    ensure!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits at most thirty seconds: others may want this computer, too.
pub fn wait_for(mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if condition() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("waited thirty seconds")
}

/// A system bus as distributions configure it.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <servicedir>/run/rcc-lab/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
  </policy>
  <includedir>/run/rcc-lab/system.d</includedir>
</busconfig>
"#;

/// A zone with the names that most tests need.
pub fn zone() -> Zone {
    Zone::default()
        .name("allowed.example", &[world::SERVERS[0]])
        .name("other.example", &[world::SERVERS[1]])
        .name("wild.zone.example", &[world::SERVERS[2]])
}
