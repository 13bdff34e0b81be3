//! SOAP 1.1 answers, read as a stream of events into rows.
//!
//! Every reading operation of AXL answers `<return>` with a flat list of things, and each thing with a flat list of
//! fields; so one reader serves them all. The queue of changes alone says two things of its own without a `<return>`: how
//! it stands, and a list of changes. Nothing is built but the rows, and each bound is checked before it is.

use rxml::error::EndOrError;
use rxml::{Event, Parse as _, Parser};

use crate::error::XmlError;

/// The namespace of SOAP 1.1.
pub(crate) const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// Bounds on an answer; all are checked while reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Octets of the whole answer; 16 MiB by default, twice what AXL itself sends at most.
    pub bytes: usize,
    /// Elements inside each other; 32 by default.
    pub depth: usize,
    /// Attributes of one element; 64 by default.
    pub attributes: usize,
    /// Rows and fields of the whole answer together; 500,000 by default.
    pub fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 32, attributes: 64, fields: 500_000 }
    }
}

/// One thing of an answer: a row of a query, a user, a node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Row {
    uuid: Option<String>,
    fields: Vec<(String, String)>,
}

impl Row {
    /// The `uuid` attribute without braces, in lower case; `None` for rows of a query.
    pub fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    /// The text of a field; `None` if it is absent or empty, which is how NULL comes. Names are compared without
    /// case, since AXL spells them in mixed case and SQL in lower case.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, text) = self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(text.trim()).filter(|text| !text.is_empty())
    }

    /// A field as a truth value (`true`, `false`, and SQL's `t`, `f`); `None` if it is absent or neither.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.text(name)? {
            "true" | "t" | "T" | "1" => Some(true),
            "false" | "f" | "F" | "0" => Some(false),
            _ => None,
        }
    }

    /// A field as a number; `None` if it is absent or not one.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }
}

/// Makes a row out of names and texts, for tests and stand-ins.
impl<N: Into<String>, T: Into<String>> FromIterator<(N, T)> for Row {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(fields: I) -> Self {
        Self {
            uuid: None,
            fields: fields.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
        }
    }
}

pub(crate) enum Answer {
    Rows(Vec<Row>),
    Fault { code: Option<i64>, message: String },
}

/// Reads the answer to `operation`.
pub(crate) fn read(body: &[u8], operation: &'static str, limits: Limits) -> Result<Answer, XmlError> {
    if body.len() > limits.bytes {
        return Err(XmlError::Limit("octets", limits.bytes));
    }
    let mut parser = Parser::new();
    let mut rest = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = Reader {
        operation,
        limits,
        place: Vec::new(),
        rows: Vec::new(),
        entries: 0,
        answered: false,
        fault: None,
    };
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(event)) => reader.event(event)?,
            Ok(None) => return reader.finish(),
            Err(EndOrError::NeedMoreData) => return Err(XmlError::Malformed("it ends too early".to_owned())),
            Err(EndOrError::Error(error)) => return Err(XmlError::Malformed(error.to_string())),
        }
    }
}

/// Where in the answer an element is. What is not listed is `Other`, and so is everything inside it.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Envelope,
    Body,
    Response,
    Return,
    Row,
    Field,
    Fault,
    FaultText,
    Detail,
    AxlError,
    AxlCode,
    AxlMessage,
    Other,
}

#[derive(Default)]
struct Fault {
    code: String,
    text: String,
    axl_text: String,
}

struct Reader {
    operation: &'static str,
    limits: Limits,
    place: Vec<Place>,
    rows: Vec<Row>,
    /// Rows and fields so far.
    entries: usize,
    /// The `<return>` of the operation was seen.
    answered: bool,
    fault: Option<Fault>,
}

impl Reader {
    fn event(&mut self, event: Event) -> Result<(), XmlError> {
        match event {
            Event::XmlDeclaration(..) => {}
            Event::StartElement(_, (namespace, name), attributes) => {
                if self.place.len() == self.limits.depth {
                    return Err(XmlError::Limit("elements inside each other", self.limits.depth));
                }
                if attributes.len() > self.limits.attributes {
                    return Err(XmlError::Limit("attributes", self.limits.attributes));
                }
                let place = self.place_of(namespace.as_str(), name.as_str());
                match place {
                    // Anything but SOAP 1.1, for example the login page of a proxy.
                    Place::Other if self.place.is_empty() => return Err(XmlError::Shape(self.operation)),
                    Place::Return => self.answered = true,
                    Place::Fault => self.fault = Some(Fault::default()),
                    Place::Row => {
                        // What a queue says of itself stands in no list.
                        self.answered |= self.place.last() == Some(&Place::Response);
                        self.count()?;
                        let uuid = attributes
                            .iter()
                            .find(|((_, name), _)| name.as_str() == "uuid")
                            .map(|(_, value)| value.trim_matches(['{', '}']).to_ascii_lowercase());
                        self.rows.push(Row { uuid, fields: Vec::new() });
                    }
                    Place::Field => {
                        self.count()?;
                        if let Some(row) = self.rows.last_mut() {
                            row.fields.push((name.to_string(), String::new()));
                        }
                    }
                    _ => {}
                }
                self.place.push(place);
            }
            Event::EndElement(_) => {
                self.place.pop();
            }
            Event::Text(_, text) => self.text(&text),
        }
        Ok(())
    }

    /// Names are compared without namespaces below the envelope: AXL qualifies some of them in some releases.
    fn place_of(&self, namespace: &str, name: &str) -> Place {
        let Some(parent) = self.place.last() else {
            return if namespace == SOAP && name == "Envelope" { Place::Envelope } else { Place::Other };
        };
        match (parent, name) {
            (Place::Envelope, "Body") => Place::Body,
            (Place::Body, "Fault") => Place::Fault,
            (Place::Body, name) if name.strip_suffix("Response") == Some(self.operation) => Place::Response,
            (Place::Response, "return" | "changes") => Place::Return,
            (Place::Response, "queueInfo") => Place::Row,
            (Place::Return, "changes") if self.operation == "listChange" => Place::Return,
            (Place::Return, _) => Place::Row,
            (Place::Row, _) => Place::Field,
            (Place::Fault, "faultstring") => Place::FaultText,
            (Place::Fault, "detail") => Place::Detail,
            (Place::Detail, "axlError") => Place::AxlError,
            (Place::AxlError, "axlcode") => Place::AxlCode,
            (Place::AxlError, "axlmessage") => Place::AxlMessage,
            _ => Place::Other,
        }
    }

    fn text(&mut self, text: &str) {
        let fault = self.fault.as_mut();
        let target = match (self.place.last(), fault) {
            (Some(Place::Field), _) => {
                self.rows.last_mut().and_then(|row| row.fields.last_mut()).map(|(_, t)| t)
            }
            (Some(Place::FaultText), Some(fault)) => Some(&mut fault.text),
            (Some(Place::AxlCode), Some(fault)) => Some(&mut fault.code),
            (Some(Place::AxlMessage), Some(fault)) => Some(&mut fault.axl_text),
            _ => None,
        };
        if let Some(target) = target {
            target.push_str(text);
        }
    }

    fn count(&mut self) -> Result<(), XmlError> {
        self.entries += 1;
        if self.entries > self.limits.fields {
            return Err(XmlError::Limit("rows and fields", self.limits.fields));
        }
        Ok(())
    }

    fn finish(self) -> Result<Answer, XmlError> {
        if let Some(fault) = self.fault {
            let message = if fault.axl_text.trim().is_empty() { fault.text } else { fault.axl_text };
            return Ok(Answer::Fault {
                code: fault.code.trim().parse().ok(),
                message: message.trim().to_owned(),
            });
        }
        if !self.answered {
            return Err(XmlError::Shape(self.operation));
        }
        Ok(Answer::Rows(self.rows))
    }
}
