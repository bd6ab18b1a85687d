//! Taking a root file system in as an image, by Podman's own API. The Docker-compatible
//! call leaves a copy of the whole archive in /var/tmp each time (seen with 4.3.1).

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Engine;

/// Most bytes of an answer; it is a line of JSON.
const MAX_ANSWER: u64 = 64 << 10;

impl Engine {
    /// Takes an archive in, under this name. What breaks off, or whose reading fails,
    /// makes no image.
    pub(crate) async fn import(
        &self,
        reference: &str,
        archive: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> io::Result<()> {
        let stream = UnixStream::connect(self.socket()).await?;
        // A name of rcc's own, of which no character must be escaped but these.
        let name = reference.replace('/', "%2F").replace(':', "%3A");
        send(stream, &format!("/v4.0.0/libpod/images/import?reference={name}"), archive).await
    }
}

async fn send(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    path: &str,
    archive: impl Stream<Item = io::Result<Bytes>> + Send,
) -> io::Result<()> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/x-tar\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut archive = std::pin::pin!(archive);
    let mut refused = false;
    while let Some(piece) = archive.next().await {
        // Without the last chunk (RFC 9112 7.1) the engine throws away what it has.
        let piece = piece?;
        if piece.is_empty() {
            continue;
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(&piece);
        chunk.extend_from_slice(b"\r\n");
        refused = stream.write_all(&chunk).await.is_err();
        if refused {
            break;
        }
    }
    if !refused {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    // An engine that refused in the middle says why.
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_whitespace().nth(1) {
        Some("200") if !refused => Ok(()),
        Some(status) => {
            let said = crate::display::line(answer.lines().last().unwrap_or_default(), 300);
            Err(io::Error::other(format!("it answered with status {status}: {said}")))
        }
        None => Err(io::Error::other("it ended without an answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the engine: reads to the last chunk, or the end, and answers.
    async fn play(mut stream: tokio::io::DuplexStream, answer: &str) -> String {
        let mut got = Vec::new();
        while !got.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut got).await.unwrap() > 0 {}
        // Nobody may be there any more.
        let _ = stream.write_all(answer.as_bytes()).await;
        String::from_utf8(got).unwrap()
    }

    async fn sent(archive: Vec<io::Result<Bytes>>, answer: &str) -> (io::Result<()>, String) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let archive = futures_util::stream::iter(archive);
        tokio::join!(send(ours, "/import", archive), play(theirs, answer))
    }

    #[tokio::test]
    async fn an_archive_is_sent_whole_and_one_that_breaks_off_has_no_end() {
        let pieces = || vec![Ok(Bytes::from("one")), Ok(Bytes::new()), Ok(Bytes::from("and two"))];
        let (told, got) = sent(pieces(), "HTTP/1.1 200 OK\r\n\r\n{}").await;
        told.unwrap();
        assert!(got.starts_with("POST /import HTTP/1.1\r\n"), "{got}");
        assert!(got.ends_with("\r\n\r\n3\r\none\r\n7\r\nand two\r\n0\r\n\r\n"), "{got}");

        let (told, _) = sent(pieces(), "HTTP/1.1 500 Oh\r\n\r\n{\"cause\": \"no space\"}").await;
        assert!(told.unwrap_err().to_string().contains("status 500: {\"cause\": \"no space\"}"));
        assert!(sent(pieces(), "").await.0.is_err());

        let mut broken = pieces();
        broken.push(Err(io::Error::other("mmdebstrap failed")));
        let (told, got) = sent(broken, "HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(told.unwrap_err().to_string(), "mmdebstrap failed");
        assert!(!got.ends_with("0\r\n\r\n"), "{got}");
    }
}
