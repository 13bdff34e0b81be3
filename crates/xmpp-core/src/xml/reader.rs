//! Bytes in any chunks to frames.

use std::fmt;

use minidom::Element;
use rxml::error::{EndOrError, ErrorContext};
use rxml::{Namespace, NcName, Options, Parse as _, RawEvent, RawParser, RawQName, WithOptions as _};

use super::{Limits, Outline};
use crate::ns;
use crate::stream::Header;

/// A piece of a stream. Its `Debug` shows no content.
#[derive(Clone, PartialEq)]
pub enum Frame {
    /// The stream's header.
    Open(Header),
    /// A complete child of the stream: a stanza, or an element of the negotiation.
    Element(Element),
    /// The stream's end.
    Close,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(header) => f.debug_tuple("Open").field(header).finish(),
            Self::Element(element) => f.debug_tuple("Element").field(&Outline(element)).finish(),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// Why bytes from a peer are not acceptable. It quotes a single character at most.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// Not well-formed, or not the XML that a stream may use (RFC 6120 §11.1: no comments, processing
    /// instructions, declarations or references to other entities).
    #[error("not acceptable as XML: {0}")]
    Syntax(rxml::Error),
    /// Elements nest deeper than allowed.
    #[error("elements nest deeper than {0}")]
    Depth(usize),
    /// A stanza, or the stream header, is larger than allowed.
    #[error("a stanza has more than {0} bytes")]
    Size(usize),
    /// An element has more attributes than allowed.
    #[error("an element has more than {0} attributes")]
    Attributes(usize),
    /// Text between stanzas that is not white space.
    #[error("text between stanzas")]
    StrayText,
    /// The document's root is not a stream.
    #[error("not a stream")]
    NotAStream,
    /// An element of the stream's own protocol lacks what it must have.
    #[error("an element of the stream's own protocol is incomplete")]
    Invalid,
}

impl XmlError {
    /// The condition of the stream error that tells the peer (RFC 6120 §4.9.3).
    #[must_use]
    pub fn condition(&self) -> &'static str {
        match self {
            Self::Syntax(rxml::Error::RestrictedXml(_)) => "restricted-xml",
            Self::Syntax(_) => "not-well-formed",
            Self::Depth(_) | Self::Size(_) | Self::Attributes(_) => "policy-violation",
            Self::StrayText => "bad-format",
            Self::NotAStream => "invalid-namespace",
            Self::Invalid => "invalid-xml",
        }
    }
}

/// Reads one direction of a stream. However the bytes are cut, the frames are the same.
///
/// The [`Limits`] hold before an element is built, so what a peer sends costs at most about the allowed
/// stanza in memory. Elements of a component's stream come out in the namespace `jabber:client`.
pub struct Reader {
    parser: RawParser,
    limits: Limits,
    /// Bytes fed and not yet parsed, from `start` on.
    buffer: Vec<u8>,
    start: usize,
    /// Bytes since the last complete child of the stream.
    used: usize,
    /// The head of an element whose `>` has not come yet.
    head: Option<Head>,
    /// Namespace declarations in force: at which depth, prefix, name.
    declared: Vec<(usize, Option<NcName>, String)>,
    /// Open elements of the current child of the stream, outermost first.
    stack: Vec<Element>,
    /// Elements of this namespace are built in `jabber:client` instead.
    rewritten: Option<&'static str>,
    /// The document's first `<` was seen.
    begun: bool,
    place: Place,
}

#[derive(Debug)]
enum Place {
    BeforeHeader,
    InStream,
    Closed,
    Failed(XmlError),
}

struct Head {
    name: RawQName,
    attributes: Vec<(RawQName, String)>,
    declarations: usize,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("place", &self.place)
            .field("unread", &(self.buffer.len() - self.start))
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Starts before the stream header.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            parser: parser(&limits),
            limits,
            buffer: Vec::new(),
            start: 0,
            used: 0,
            head: None,
            declared: Vec::new(),
            stack: Vec::new(),
            rewritten: None,
            begun: false,
            place: Place::BeforeHeader,
        }
    }

    /// Expects a new stream header from the next byte on, as after SASL (RFC 6120 §4.3.3). Bytes that were
    /// fed and not read belong to the new stream.
    pub fn restart(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        *self = Self { buffer, start: self.start, ..Self::new(self.limits) };
    }

    /// Whether bytes were fed and not read, other than white space. After STARTTLS was agreed on and before
    /// TLS is up there must be none: somebody between the peers could have put them there (RFC 6120 §5.3.3).
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.buffer[self.start..].iter().any(|byte| !byte.is_ascii_whitespace())
    }

    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or `None` until more bytes are fed. After the stream's end there is none.
    ///
    /// # Errors
    /// The bytes are malformed or over a limit; every further call returns the same error.
    #[allow(clippy::should_implement_trait)] // feeding and reading alternate, so an iterator would mislead
    pub fn next(&mut self) -> Result<Option<Frame>, XmlError> {
        match self.place {
            Place::Failed(error) => return Err(error),
            Place::Closed => return Ok(None),
            Place::BeforeHeader | Place::InStream => {}
        }
        let result = self.read();
        if let Err(error) = result {
            self.place = Place::Failed(error);
            self.stack = Vec::new();
            self.head = None;
        }
        if !matches!(result, Ok(Some(_))) {
            self.release();
        }
        result
    }

    /// Passes over white space before the document, which some peers leave between two. What does not begin
    /// as XML is told at once, where the parser would wait for the end of a text.
    fn begin(&mut self) -> Result<(), XmlError> {
        let rest = &self.buffer[self.start..];
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.begun = match rest.get(blank) {
            Some(b'<') => true,
            Some(_) => return Err(XmlError::NotAStream),
            None => false,
        };
        self.start += blank;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Frame>, XmlError> {
        if !self.begun {
            self.begin()?;
        }
        loop {
            let mut rest = &self.buffer[self.start..];
            let before = rest.len();
            let event = self.parser.parse(&mut rest, false);
            let consumed = before - rest.len();
            self.start += consumed;
            self.used += consumed;
            if self.used > self.limits.stanza_bytes {
                return Err(XmlError::Size(self.limits.stanza_bytes));
            }
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) | Err(EndOrError::NeedMoreData) => return Ok(None),
                Err(EndOrError::Error(error)) => return Err(XmlError::Syntax(error)),
            };
            if let Some(frame) = self.handle(event)? {
                self.used = 0;
                return Ok(Some(frame));
            }
        }
    }

    fn handle(&mut self, event: RawEvent) -> Result<Option<Frame>, XmlError> {
        match event {
            RawEvent::XmlDeclaration(..) => Ok(None),
            RawEvent::ElementHeadOpen(_, name) => {
                if self.stack.len() >= self.limits.depth {
                    return Err(XmlError::Depth(self.limits.depth));
                }
                self.head = Some(Head { name, attributes: Vec::new(), declarations: 0 });
                Ok(None)
            }
            RawEvent::Attribute(_, name, value) => self.attribute(name, value).map(|()| None),
            RawEvent::ElementHeadClose(_) => self.open(),
            RawEvent::Text(_, text) => self.text(text).map(|()| None),
            RawEvent::ElementFoot(_) => Ok(self.close()),
        }
    }

    fn attribute(&mut self, name: RawQName, value: String) -> Result<(), XmlError> {
        let depth = self.depth();
        let Some(head) = &mut self.head else { return Ok(()) };
        if head.attributes.len() + head.declarations >= self.limits.attributes {
            return Err(XmlError::Attributes(self.limits.attributes));
        }
        let prefix = match name {
            (None, local) if local == "xmlns" => None,
            (Some(prefix), local) if prefix == "xmlns" => Some(local),
            name => {
                head.attributes.push((name, value));
                return Ok(());
            }
        };
        let mine = &self.declared[self.declared.len() - head.declarations..];
        if mine.iter().any(|(_, earlier, _)| *earlier == prefix) {
            return Err(XmlError::Syntax(rxml::Error::DuplicateAttribute));
        }
        head.declarations += 1;
        self.declared.push((depth, prefix, value));
        Ok(())
    }

    /// The depth of the element whose head is being read: 0 for the stream.
    fn depth(&self) -> usize {
        match self.place {
            Place::BeforeHeader => 0,
            _ => self.stack.len() + 1,
        }
    }

    fn open(&mut self) -> Result<Option<Frame>, XmlError> {
        let Some(Head { name: (prefix, name), attributes, .. }) = self.head.take() else { return Ok(None) };
        let namespace = self.resolve(prefix.as_ref())?;
        if matches!(self.place, Place::BeforeHeader) {
            if namespace != ns::STREAM || name != "stream" {
                return Err(XmlError::NotAStream);
            }
            let header = self.header(attributes)?;
            self.rewritten = (header.content_ns == ns::COMPONENT_ACCEPT).then_some(ns::COMPONENT_ACCEPT);
            self.place = Place::InStream;
            return Ok(Some(Frame::Open(header)));
        }
        let namespace = match self.rewritten {
            Some(rewritten) if rewritten == namespace => ns::CLIENT,
            _ => namespace,
        };
        let mut element = Element::bare(name.as_str(), namespace);
        for ((prefix, name), value) in attributes {
            let namespace = match prefix {
                None => Namespace::NONE,
                Some(prefix) => self.resolve(Some(&prefix))?.to_owned().into(),
            };
            if element.attrs_mut().insert(namespace, name, value).is_some() {
                return Err(XmlError::Syntax(rxml::Error::DuplicateAttribute));
            }
        }
        self.stack.push(element);
        Ok(None)
    }

    fn resolve(&self, prefix: Option<&NcName>) -> Result<&str, XmlError> {
        if prefix.is_some_and(|prefix| prefix == "xml") {
            return Ok(ns::XML);
        }
        let declared = self.declared.iter().rev().find(|(_, declared, _)| declared.as_ref() == prefix);
        match (declared, prefix) {
            (Some((_, _, namespace)), _) => Ok(namespace),
            (None, None) => Ok(""),
            (None, Some(_)) => {
                Err(XmlError::Syntax(rxml::Error::UndeclaredNamespacePrefix(Some(ErrorContext::Element))))
            }
        }
    }

    fn header(&self, attributes: Vec<(RawQName, String)>) -> Result<Header, XmlError> {
        let mut header = Header { content_ns: self.resolve(None)?.to_owned(), ..Header::default() };
        for ((prefix, name), value) in attributes {
            let field = match (prefix.as_ref().map(NcName::as_str), name.as_str()) {
                (None, "to") => &mut header.to,
                (None, "from") => &mut header.from,
                (None, "id") => &mut header.id,
                (None, "version") => &mut header.version,
                (Some("xml"), "lang") => &mut header.lang,
                _ => continue,
            };
            if field.replace(value).is_some() {
                return Err(XmlError::Syntax(rxml::Error::DuplicateAttribute));
            }
        }
        Ok(header)
    }

    fn text(&mut self, text: String) -> Result<(), XmlError> {
        if let Some(element) = self.stack.last_mut() {
            element.append_text(text);
            return Ok(());
        }
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            self.used = 0;
            Ok(())
        } else {
            Err(XmlError::StrayText)
        }
    }

    fn close(&mut self) -> Option<Frame> {
        let depth = self.stack.len();
        while self.declared.last().is_some_and(|(declared_at, ..)| *declared_at >= depth && depth > 0) {
            self.declared.pop();
        }
        let Some(element) = self.stack.pop() else {
            self.place = Place::Closed;
            return Some(Frame::Close);
        };
        match self.stack.last_mut() {
            Some(parent) => {
                parent.append_child(element);
                None
            }
            None => Some(Frame::Element(element)),
        }
    }

    /// Gives memory back while there is nothing to read: an idle stream holds next to none.
    fn release(&mut self) {
        self.parser.release_temporaries();
        if self.start == self.buffer.len() {
            self.start = 0;
            self.buffer = Vec::new();
        }
    }
}

fn parser(limits: &Limits) -> RawParser {
    RawParser::with_options(Options { max_token_length: limits.token_bytes, ..Options::default() })
}
