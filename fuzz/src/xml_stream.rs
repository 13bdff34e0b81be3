//! Bytes into the XML reader: whatever the chunks, the same frames; within the limits; and what was read can be
//! written and read again.

use xmpp_core::Element;
use xmpp_core::xml::{Frame, Limits, Reader, XmlError, write};

const LIMITS: Limits = Limits { depth: 8, stanza_bytes: 4096, attributes: 8, token_bytes: 256 };

pub(crate) fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let whole = read(rest, rest.len().max(1));
    let chunked = read(rest, usize::from(first % 16) + 1);
    assert_eq!(whole.1, chunked.1, "the chunks decide how a stream ends");
    let printed = |frames: &[Frame]| frames.iter().map(print).collect::<Vec<_>>();
    assert_eq!(printed(&whole.0), printed(&chunked.0), "the chunks decide what is read");
    for frame in &whole.0 {
        if let Frame::Element(element) = frame {
            assert!(depth(element) <= LIMITS.depth, "deeper than the limit");
            again(element);
        }
    }
}

/// Everything up to the stream's end or its first error.
fn read(bytes: &[u8], chunk: usize) -> (Vec<Frame>, Option<XmlError>) {
    let mut reader = Reader::new(LIMITS);
    let mut frames = Vec::new();
    for piece in bytes.chunks(chunk) {
        reader.feed(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next().err(), Some(error), "an error is forgotten");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fn print(frame: &Frame) -> String {
    match frame {
        Frame::Element(element) => {
            let mut bytes = Vec::new();
            write(element, &mut bytes);
            String::from_utf8(bytes).expect("what is written is UTF-8")
        }
        other => format!("{other:?}"),
    }
}

fn depth(element: &Element) -> usize {
    1 + element.children().map(depth).max().unwrap_or(0)
}

/// Writes an element into a stream of its own namespace and reads it there.
fn again(element: &Element) {
    let mut bytes =
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>".to_vec();
    write(element, &mut bytes);
    let mut reader = Reader::new(Limits::default());
    reader.feed(&bytes);
    assert!(matches!(reader.next(), Ok(Some(Frame::Open(_)))));
    match reader.next() {
        Ok(Some(Frame::Element(back))) => {
            assert_eq!(*element, back, "what is written reads as something else")
        }
        other => panic!("what is written does not read: {other:?}"),
    }
}
