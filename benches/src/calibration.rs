//! How fast this machine is at the work that a message is made of, so that figures of two machines, or of two hours,
//! can be compared.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use kms_client::jose::jwe;
use kms_client::jose::jwk::ContentKey;
use rustix::time::{ClockId, clock_gettime};
use webex_api::activity::Activity;

use crate::Failure;

/// A text of 200 bytes, which all benches use.
pub(crate) const TEXT: &str = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 \
     0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 01";

/// An activity as the cloud sends it, with a text of 200 bytes.
pub(crate) fn activity() -> String {
    let person = |n: u8| {
        format!(
            r#"{{"id":"0000000{n}-0000-4000-8000-00000000000{n}","objectType":"person","displayName":"User 0000{n}","orgId":"33333333-3333-4333-8333-333333333333","emailAddress":"u0000{n}@corp.example","entryUUID":"0000000{n}-0000-4000-8000-00000000000{n}","type":"PERSON"}}"#
        )
    };
    let sealed = jwe::seal(&key(), &[7; 12], TEXT.as_bytes()).unwrap_or_default();
    format!(
        r#"{{"id":"11111111-1111-4111-8111-111111111111","objectType":"activity","url":"https://conv.example/conversation/api/v1/activities/11111111-1111-4111-8111-111111111111","published":"2026-01-02T03:04:05.678Z","verb":"post","actor":{actor},"object":{{"objectType":"comment","displayName":"{sealed}"}},"target":{{"id":"22222222-2222-4222-8222-222222222222","objectType":"conversation","url":"https://conv.example/conversation/api/v1/conversations/22222222-2222-4222-8222-222222222222","tags":["ONE_ON_ONE"],"participants":{{"items":[{actor},{other}]}}}},"clientTempId":"44444444-4444-4444-8444-444444444444","encryptionKeyUrl":"kms://kms.example/keys/55555555-5555-4555-8555-555555555555"}}"#,
        actor = person(1),
        other = person(2),
    )
}

/// A content key.
pub(crate) fn key() -> ContentKey {
    ContentKey::new([42; 32])
}

/// The time in ms that this thread uses for 1,000 times: seal and open 200 bytes, decode and encode an activity, write
/// and read four times over loopback.
///
/// # Errors
/// There is no loopback.
pub(crate) fn calibrate() -> Result<f64, Failure> {
    let (mut near, mut far) = loopback()?;
    let (key, activity) = (key(), activity());
    let value: serde_json::Value = serde_json::from_str(&activity)?;
    let mut buffer = [0; 1024];
    let used = cpu(|| {
        for n in 0u32..1000 {
            let mut iv = [0; 12];
            iv[..4].copy_from_slice(&n.to_be_bytes());
            let sealed = jwe::seal(&key, &iv, TEXT.as_bytes())?;
            black_box(jwe::open(&key, &sealed)?);
            let read: Activity = serde_json::from_str(&activity)?;
            black_box(serde_json::to_string(&value)?);
            black_box(read);
            for _ in 0..4 {
                near.write_all(TEXT.as_bytes())?;
                let _ = far.read(&mut buffer)?;
            }
        }
        Ok(())
    })?;
    Ok(used)
}

/// Two ends of a connection.
///
/// # Errors
/// There is no loopback.
pub(crate) fn loopback() -> Result<(TcpStream, TcpStream), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    Ok((near, listener.accept()?.0))
}

/// The time in ms that this thread uses for something.
pub(crate) fn cpu(work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    };
    let before = now();
    work()?;
    Ok(now() - before)
}
