//! What the parts of a message cost where there is nothing but them: the same libraries and the same bytes, one thread, warm
//! caches, sixteen at a time; no order, no decisions, nobody who waits for anybody. No connector on these libraries can
//! cost less than their sum.

use std::fs;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use futures_util::future::try_join_all;
use futures_util::{SinkExt as _, StreamExt as _};
use kms_client::jose::jwe;
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;
use webex_api::activity::{Action, Activity, Comment, Post, Target, Text};
use webex_api::auth::AccessToken;
use webex_api::client::{Http, HttpConfig, MercuryConfig, MercurySocket};
use webex_api::mercury::Output;
use webex_api::{Random, Timestamp, Url};
use xmpp_core::Element;
use xmpp_core::xml::{Frame, Limits, Reader, write};

use crate::calibration::{TEXT, activity, calibrate, cpu, key, loopback};
use crate::small::{HEADER, grown, stanza};
use crate::world::scratch;
use crate::{Failure, Size, failed};

/// How many messages go together, as in the connector under load.
const TOGETHER: usize = 16;

/// Prints what 1,000 messages need of each part, and of all, each way.
///
/// # Errors
/// There is no loopback or no disk.
pub(crate) fn run(size: Size) -> Result<(), Failure> {
    // A thread of its own: the bench's runtime must not be entered twice.
    let measured = thread::spawn(move || measure(size)).join();
    measured.map_err(|_| "a part panicked")?
}

fn measure(size: Size) -> Result<(), Failure> {
    let groups = size.of(1000, 2);
    let per_1000 = |ms: f64| ms * 1000.0 / (groups * TOGETHER) as f64;
    let folder = scratch();
    fs::create_dir_all(&folder)?;
    let (_, storage) = grown(&folder.join("parts.db"), size)?;
    fs::remove_dir_all(&folder)?;
    let (seal, open) = crypto(groups)?;
    let (http, mercury) = (per_1000(posts(groups)?), per_1000(events(groups)?));
    let (read, written) = stanzas(groups)?;
    let (seal, open, read, written) = (per_1000(seal), per_1000(open), per_1000(read), per_1000(written));
    let calibration = calibrate()?;
    let to_webex = read + storage + seal + http + mercury;
    let to_jabber = mercury + storage + open + written;
    println!(
        "parts: towards Webex {to_webex:.0} CPU-ms per 1,000, {:.2} calibrations: XML {read:.1}, storage {storage:.1}, \
         crypto {seal:.1}, HTTP {http:.1}, the socket it comes back by {mercury:.1}",
        to_webex / calibration
    );
    println!(
        "parts: towards Jabber {to_jabber:.0} CPU-ms per 1,000, {:.2} calibrations: the socket {mercury:.1}, storage \
         {storage:.1}, crypto {open:.1}, XML {written:.1}; calibration {calibration:.1} ms",
        to_jabber / calibration
    );
    Ok(())
}

/// Sealing, and opening.
fn crypto(groups: usize) -> Result<(f64, f64), Failure> {
    let key = key();
    let mut sealed = jwe::seal(&key, &[7; 12], TEXT.as_bytes())?;
    let seal = cpu(|| {
        for _ in 0..groups * TOGETHER {
            sealed = jwe::seal(&key, &[7; 12], TEXT.as_bytes())?;
        }
        Ok(())
    })?;
    let open = cpu(|| {
        for _ in 0..groups * TOGETHER {
            black_box(jwe::open(&key, &sealed)?);
        }
        Ok(())
    })?;
    Ok((seal, open))
}

/// Reading stanzas that come together and acknowledging them; writing stanzas together and reading what acknowledges them.
fn stanzas(groups: usize) -> Result<(f64, f64), Failure> {
    const ACK: &str = "<a xmlns='urn:xmpp:sm:3' h='16'/>";
    let (mut near, mut far) = loopback()?;
    let mut reader = Reader::new(Limits::default());
    reader.feed(HEADER.as_bytes());
    reader.next()?;
    let mut element = None;
    let together = stanza().repeat(TOGETHER);
    let writer = thread::spawn(move || {
        for _ in 0..groups {
            far.write_all(together.as_bytes())?;
            far.read_exact(&mut [0; ACK.len()])?;
        }
        for _ in 0..groups {
            far.read_exact(&mut vec![0; together.len()])?;
            far.write_all(ACK.as_bytes())?;
        }
        Ok::<_, std::io::Error>(())
    });
    let read = cpu(|| {
        for _ in 0..groups {
            for _ in 0..TOGETHER {
                element = Some(next(&mut reader, &mut near)?);
            }
            near.write_all(ACK.as_bytes())?;
        }
        Ok(())
    })?;
    let element = element.ok_or("nothing was read")?;
    let mut bytes = Vec::new();
    let written = cpu(|| {
        for _ in 0..groups {
            bytes.clear();
            for _ in 0..TOGETHER {
                write(&element, &mut bytes);
            }
            // The other side waits for as many bytes as it wrote.
            bytes.resize(stanza().len() * TOGETHER, b' ');
            near.write_all(&bytes)?;
            next(&mut reader, &mut near)?;
        }
        Ok(())
    })?;
    writer.join().map_err(|_| "the far side panicked")??;
    Ok((read, written))
}

fn next(reader: &mut Reader, socket: &mut TcpStream) -> Result<Element, Failure> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match reader.next()? {
            Some(Frame::Element(element)) => return Ok(element),
            Some(_) => return failed("the stream ended"),
            None => {
                let n = socket.read(&mut buffer)?;
                reader.feed(&buffer[..n]);
            }
        }
    }
}

/// Posts, sixteen connections at once, each answered with the activity.
fn posts(groups: usize) -> Result<f64, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base: Url = format!("http://{}/", listener.local_addr()?).parse()?;
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            thread::spawn(move || answer(connection));
        }
    });
    let http = Http::new(HttpConfig::new(lab::tls::client_config(None)?), &mut random())?;
    let token = AccessToken::try_from("token".to_owned())?;
    let sample: Activity = serde_json::from_str(&activity())?;
    let conversation = sample.conversation().ok_or("no conversation")?;
    let post = Post {
        target: Target {
            id: conversation.id.clone(),
            url: format!("{base}conversations/{}", conversation.id).parse()?,
            kms_resource_object_url: None,
        },
        actor: sample.actor.as_ref().and_then(|actor| actor.id.clone()).ok_or("no actor")?,
        client_temp_id: "44444444-4444-4444-8444-444444444444".parse()?,
        action: Action::Comment(Comment {
            display_name: Text::new(jwe::seal(&key(), &[7; 12], TEXT.as_bytes())?),
            content: None,
            key: sample.key().cloned().ok_or("no key")?,
        }),
    };
    let round = async || {
        let all = (0..TOGETHER).map(|_| http.send(post.clone(), &base, Some(&token)));
        try_join_all(all).await.map(|answers| drop(black_box(answers)))
    };
    let runtime = runtime()?;
    // Connections are opened.
    runtime.block_on(round())?;
    cpu(|| {
        runtime.block_on(async {
            for _ in 0..groups {
                round().await?;
            }
            Ok(())
        })
    })
}

/// The far side of one HTTP connection, until it is closed.
fn answer(mut connection: TcpStream) -> Result<(), Failure> {
    let body = activity();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (mut request, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    connection.set_nodelay(true)?;
    loop {
        let n = connection.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        let Some((head_of_request, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head_of_request.split_once("content-length: ").ok_or("no length")?.1;
        if rest.len() >= length.split_once('\r').map_or(length, |(length, _)| length).parse()? {
            connection.write_all(format!("{head}{body}").as_bytes())?;
            request.clear();
        }
    }
}

/// Events of a Mercury socket, sixteen together, each acknowledged by itself.
fn events(groups: usize) -> Result<f64, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let far = thread::spawn(move || runtime()?.block_on(tell(listener, groups)));
    let mut socket = None;
    let runtime = runtime()?;
    runtime.block_on(async {
        socket = Some(connected(address).await?);
        Ok::<_, Failure>(())
    })?;
    let mut socket = socket.ok_or("no socket")?;
    let used = cpu(|| {
        runtime.block_on(async {
            let mut left = groups * TOGETHER;
            while left > 0 {
                match socket.next().await {
                    Some(Output::Event(envelope)) => {
                        let id = envelope.id.clone().ok_or("an event without an id")?;
                        socket.acknowledge(&id);
                        black_box(envelope);
                        left -= 1;
                    }
                    Some(Output::Ready) => {}
                    other => return failed(format!("the socket told {other:?}")),
                }
            }
            Ok(())
        })
    })?;
    // What is still to be sent goes out; then the far side ends.
    runtime.block_on(async { while !far.is_finished() && socket.next().await.is_some() {} });
    far.join().map_err(|_| "the far side panicked")??;
    Ok(used)
}

async fn connected(address: SocketAddr) -> Result<MercurySocket, Failure> {
    let url: Url = format!("ws://{address}/").parse()?;
    let token = AccessToken::try_from("token".to_owned())?;
    let config = MercuryConfig::new(lab::tls::client_config(None)?);
    Ok(MercurySocket::connect(&config, &url, &token, Timestamp(0), random()).await?)
}

/// The far side of a Mercury socket.
async fn tell(listener: TcpListener, groups: usize) -> Result<(), Failure> {
    let (connection, _) = listener.accept()?;
    connection.set_nonblocking(true)?;
    connection.set_nodelay(true)?;
    let mut socket = accept_async(tokio::net::TcpStream::from_std(connection)?).await?;
    socket.next().await.ok_or("nobody says who it is")??;
    socket.send(Message::text(r#"{"id":"ready","data":{"eventType":"mercury.buffer_state"}}"#)).await?;
    let activity = activity();
    for group in 0..groups {
        for n in 0..TOGETHER {
            let id = group * TOGETHER + n;
            let frame = format!(
                r#"{{"id":"{id:08}-0000-4000-8000-000000000000","data":{{"activity":{activity},"eventType":"conversation.activity"}},"timestamp":1700000000000,"trackingId":"stand-in_{id}","alertType":"full","headers":{{}},"sequenceNumber":{id},"filterMessage":false,"wsWriteTimestamp":1700000000001}}"#
            );
            socket.feed(Message::text(frame)).await?;
        }
        socket.flush().await?;
        let mut acknowledged = 0;
        while acknowledged < TOGETHER {
            let frame = socket.next().await.ok_or("the socket ended")??;
            acknowledged += usize::from(frame.to_text()?.contains("0000-4000-8000"));
        }
    }
    Ok(())
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn random() -> Random {
    let mut n = 0;
    Random::new(move || {
        n += 1;
        n
    })
}
