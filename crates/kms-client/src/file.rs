//! Files: each sealed with a key of its own, piece by piece, and the reference that says how to open it.
//!
//! The ciphertext lies with the cloud; the reference (SCR, secure content reference) has key, IV, tag and address, and
//! travels in an activity, itself sealed with the conversation's key. Memory is bounded by the caller's pieces: the whole
//! file is nowhere. The ciphertext has the length of the file; its tag is in the reference.
//!
//! ```
//! use kms_client::SystemRandom;
//! use kms_client::file::{Opener, Sealer};
//! use kms_client::jose::jwe::ContentKey;
//!
//! let mut sealer = Sealer::new(&mut SystemRandom::new(), "2024-05-01T10:00:00.000Z");
//! let mut pieces = [b"Hello ".to_vec(), b"Bob".to_vec()];
//! for piece in &mut pieces {
//!     sealer.update(piece)?; // … and is uploaded
//! }
//! let conversation = ContentKey::new([7; 32]);
//! let sealed = sealer.finish("https://files.example/1").seal(&conversation, &[1; 12])?;
//!
//! let reference = kms_client::file::Reference::open(&conversation, &sealed)?;
//! let mut opener = Opener::new(&reference);
//! for piece in &mut pieces {
//!     opener.update(piece)?;
//! }
//! opener.finish()?; // only now is it certain that these are the bytes of the sender
//! assert_eq!(pieces.concat(), b"Hello Bob");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{IV, Pieces, Random, TAG};
use crate::jose::jwe::{self, ContentKey};
use crate::jose::{JweError, decode, encode};

/// Why a file or its reference cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The bytes are not those that were sealed, or not with this key; nothing of them may be used.
    #[error("file failed authentication")]
    Authentication,
    /// The file is longer than 64 GiB, more than one key may seal.
    #[error("file is too long")]
    TooLong,
    /// The sealed reference does not open.
    #[error("the reference to a file does not open")]
    Sealed(#[source] JweError),
    /// The reference opens and is none.
    #[error("malformed reference to a file")]
    Malformed,
    /// The reference asks for another cipher than `A256GCM`.
    #[error("unsupported encryption of a file")]
    Unsupported,
}

/// How to open a file, and where it lies (SCR). Whoever has it has the file's key; printed, it shows the address alone.
#[derive(Clone, Eq, PartialEq)]
pub struct Reference {
    key: ContentKey,
    iv: [u8; IV],
    aad: String,
    loc: String,
    tag: [u8; TAG],
}

#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    #[serde(borrow)]
    enc: std::borrow::Cow<'a, str>,
    key: ContentKey,
    #[serde(borrow)]
    iv: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    aad: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    loc: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    tag: std::borrow::Cow<'a, str>,
}

impl Reference {
    /// Opens a sealed reference with the key of its activity.
    ///
    /// # Errors
    /// [`FileError::Sealed`], [`FileError::Malformed`] or [`FileError::Unsupported`].
    pub fn open(key: &ContentKey, sealed: &str) -> Result<Self, FileError> {
        let json = jwe::open(key, sealed).map_err(FileError::Sealed)?;
        let wire: Wire<'_> = serde_json::from_slice(&json).map_err(|_| FileError::Malformed)?;
        if wire.enc != "A256GCM" {
            return Err(FileError::Unsupported);
        }
        let iv = decode(&wire.iv).and_then(|iv| iv.try_into().ok()).ok_or(FileError::Malformed)?;
        let tag = decode(&wire.tag).and_then(|tag| tag.try_into().ok()).ok_or(FileError::Malformed)?;
        Ok(Self { key: wire.key, iv, aad: wire.aad.into_owned(), loc: wire.loc.into_owned(), tag })
    }

    /// Seals the reference with the key of a conversation, as [`jwe::seal`] does with a text.
    ///
    /// # Errors
    /// [`JweError::TooLong`] for an address of nearly a megabyte.
    pub fn seal(&self, key: &ContentKey, iv: &[u8; IV]) -> Result<String, JweError> {
        let (file_iv, tag) = (encode(&self.iv), encode(&self.tag));
        let wire = Wire {
            enc: "A256GCM".into(),
            key: self.key.clone(),
            iv: file_iv.into(),
            aad: self.aad.as_str().into(),
            loc: self.loc.as_str().into(),
            tag: tag.into(),
        };
        let json = Zeroizing::new(serde_json::to_vec(&wire).expect("texts are JSON"));
        jwe::seal(key, iv, &json)
    }

    /// The address of the ciphertext; not checked to be one.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.loc
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference").field("loc", &self.loc).finish_non_exhaustive()
    }
}

/// Seals one file under a key that did not exist before.
pub struct Sealer {
    key: ContentKey,
    iv: [u8; IV],
    aad: String,
    pieces: Pieces,
}

impl Sealer {
    /// Begins a file; `now` is authenticated with it, by custom an RFC 3339 time.
    pub fn new(random: &mut dyn Random, now: &str) -> Self {
        let key = ContentKey::generate(random);
        let mut iv = [0; IV];
        random.fill(&mut iv);
        let pieces = Pieces::new(key.as_bytes(), &iv, now.as_bytes());
        Self { key, iv, aad: now.to_owned(), pieces }
    }

    /// Seals the next piece, of any length, in place.
    ///
    /// # Errors
    /// [`FileError::TooLong`]; the file must be given up then.
    pub fn update(&mut self, piece: &mut [u8]) -> Result<(), FileError> {
        self.pieces.seal(piece).map_err(|_| FileError::TooLong)
    }

    /// Ends the file; `loc` is where its ciphertext was put.
    #[must_use]
    pub fn finish(self, loc: &str) -> Reference {
        let Self { key, iv, aad, pieces } = self;
        Reference { key, iv, aad, loc: loc.to_owned(), tag: pieces.tag() }
    }
}

/// Opens one file.
pub struct Opener {
    pieces: Pieces,
    tag: [u8; TAG],
}

impl Opener {
    /// Begins a file.
    #[must_use]
    pub fn new(reference: &Reference) -> Self {
        let pieces = Pieces::new(reference.key.as_bytes(), &reference.iv, reference.aad.as_bytes());
        Self { pieces, tag: reference.tag }
    }

    /// Opens the next piece, of any length, in place. Nothing may act on it before [`Opener::finish`] has agreed: write
    /// it where it can be thrown away.
    ///
    /// # Errors
    /// [`FileError::TooLong`].
    pub fn update(&mut self, piece: &mut [u8]) -> Result<(), FileError> {
        self.pieces.open(piece).map_err(|_| FileError::TooLong)
    }

    /// Whether all pieces together were what the sender sealed.
    ///
    /// # Errors
    /// [`FileError::Authentication`]: what [`Opener::update`] gave is worthless.
    pub fn finish(self) -> Result<(), FileError> {
        let tag = self.pieces.tag();
        // All bytes are compared whatever they are, so that the time taken tells nothing.
        let differs = tag.iter().zip(self.tag).fold(0, |acc, (a, b)| acc | (a ^ b));
        if differs == 0 { Ok(()) } else { Err(FileError::Authentication) }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVERSATION: [u8; 32] = [7; 32];

    fn sealed(text: &[u8]) -> (Vec<u8>, Reference) {
        let mut random = |out: &mut [u8]| out.fill(3);
        let mut sealer = Sealer::new(&mut random, "2024-05-01T10:00:00.000Z");
        let mut bytes = text.to_vec();
        sealer.update(&mut bytes).unwrap();
        (bytes, sealer.finish("https://files.example/1"))
    }

    fn opened(bytes: &[u8], reference: &Reference) -> Result<Vec<u8>, FileError> {
        let mut opener = Opener::new(reference);
        let mut pieces = bytes.to_vec();
        for piece in pieces.chunks_mut(5) {
            opener.update(piece)?;
        }
        opener.finish().map(|()| pieces)
    }

    #[test]
    fn a_changed_file_or_reference_is_refused() {
        let (bytes, reference) = sealed(b"a plan for tomorrow");
        assert_eq!(bytes.len(), 19, "the tag is in the reference");
        assert_eq!(opened(&bytes, &reference).unwrap(), b"a plan for tomorrow");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&changed, &reference), Err(FileError::Authentication), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(opened(&bytes[..cut], &reference), Err(FileError::Authentication), "cut at {cut}");
        }
        for changed in [
            Reference { iv: [4; IV], ..reference.clone() },
            Reference { tag: [0; TAG], ..reference.clone() },
            Reference { aad: "2024-05-01T10:00:00.001Z".into(), ..reference.clone() },
            Reference { key: ContentKey::new([0; 32]), ..reference },
        ] {
            assert_eq!(opened(&bytes, &changed), Err(FileError::Authentication));
        }
    }

    #[test]
    fn a_reference_travels_sealed_and_prints_no_key() {
        let (_, reference) = sealed(b"");
        let key = ContentKey::new(CONVERSATION);
        let compact = reference.seal(&key, &[1; IV]).unwrap();
        assert_eq!(Reference::open(&key, &compact).unwrap(), reference);
        assert_eq!(format!("{reference:?}"), r#"Reference { loc: "https://files.example/1", .. }"#);
        let other = ContentKey::new([8; 32]);
        assert_eq!(Reference::open(&other, &compact), Err(FileError::Sealed(JweError::Authentication)));
    }

    #[test]
    fn a_malformed_reference_is_an_error() {
        let key = ContentKey::new(CONVERSATION);
        let with = |json: &str| Reference::open(&key, &jwe::seal(&key, &[1; IV], json.as_bytes()).unwrap());
        let (k, iv, tag) = ("A".repeat(43), "A".repeat(16), "A".repeat(22));
        let good = format!(
            r#"{{"enc":"A256GCM","key":"{k}","iv":"{iv}","aad":"\u0041","loc":"http:\/\/f\/1","tag":"{tag}","more":1}}"#
        );
        let reference = with(&good).unwrap();
        assert_eq!((reference.location(), reference.aad.as_str()), ("http://f/1", "A"));
        assert_eq!(with(&good.replace("A256GCM", "A128GCM")), Err(FileError::Unsupported));
        for bad in [
            "",
            "{}",
            "[]",
            &good.replace(&k, "AAAA"),
            &good.replace(&format!("\"{iv}\""), "\"AAAA\""),
            &good.replace(&tag, &"!".repeat(22)),
            &good.replace("\"loc\"", "\"lok\""),
            &good[..good.len() - 1],
        ] {
            assert_eq!(with(bad), Err(FileError::Malformed), "{bad}");
        }
    }
}
