//! Elements to bytes.

use minidom::{Element, Node};

use crate::ns;

/// Appends an element as a child of a client stream.
///
/// Characters that XML cannot carry (RFC 6120 §11.1), which may well occur in people's text, become U+FFFD:
/// a peer would end the stream for them.
pub fn write(element: &Element, out: &mut Vec<u8>) {
    write_within(element, ns::CLIENT, out);
}

/// Appends an element as a child of a stream whose content namespace is `content`; likewise.
///
/// On a component's stream a stanza in `jabber:client` is written in `jabber:component:accept`, with those
/// of its descendants that are in `jabber:client` without anything else in between. A forwarded stanza
/// stays in `jabber:client`, as XEP-0297 asks for.
pub fn write_within(element: &Element, content: &str, out: &mut Vec<u8>) {
    let stream = Scope { default: content, is_content: true };
    write_element(element, &stream, content, out);
}

/// What is in force where an element is written.
struct Scope<'a> {
    /// The default namespace.
    default: &'a str,
    /// Whether nothing but the stream's content namespace is in between here and the stream.
    is_content: bool,
}

fn write_element(element: &Element, outer: &Scope<'_>, content: &str, out: &mut Vec<u8>) {
    let own = element.ns();
    let rewritten = outer.is_content && content == ns::COMPONENT_ACCEPT && own == ns::CLIENT;
    let namespace = if rewritten { content } else { own.as_str() };
    // The stream's own elements get its prefix: some clients look for `stream:features` by that name. An
    // element with an attribute of its own namespace gets the attribute's: jabberd2 loses it otherwise.
    let prefix = if namespace == ns::STREAM {
        Some("stream")
    } else if !namespace.is_empty() && element.attrs().iter().any(|((of, _), _)| of.as_str() == namespace) {
        Some("n0")
    } else {
        None
    };

    out.push(b'<');
    write_name(element, prefix, out);
    let default = if prefix.is_some() { outer.default } else { namespace };
    if default != outer.default {
        write_attribute("xmlns", default, out);
    }
    let mut declared: Vec<&str> = Vec::new();
    if prefix == Some("n0") {
        write_attribute("xmlns:n0", namespace, out);
        declared.push(namespace);
    }
    for ((namespace, name), value) in element.attrs() {
        let namespace = namespace.as_str();
        if namespace.is_empty() {
            write_attribute(name.as_str(), value, out);
        } else if namespace == ns::XML {
            write_attribute(&format!("xml:{name}"), value, out);
        } else {
            let index = declared.iter().position(|known| *known == namespace).unwrap_or_else(|| {
                write_attribute(&format!("xmlns:n{}", declared.len()), namespace, out);
                declared.push(namespace);
                declared.len() - 1
            });
            write_attribute(&format!("n{index}:{name}"), value, out);
        }
    }

    let mut nodes = element.nodes().peekable();
    if nodes.peek().is_none() {
        out.extend_from_slice(b"/>");
        return;
    }
    out.push(b'>');
    let inner = Scope { default, is_content: outer.is_content && namespace == content };
    for node in nodes {
        match node {
            Node::Element(child) => write_element(child, &inner, content, out),
            Node::Text(text) => escape(text, false, out),
        }
    }
    out.extend_from_slice(b"</");
    write_name(element, prefix, out);
    out.push(b'>');
}

fn write_name(element: &Element, prefix: Option<&str>, out: &mut Vec<u8>) {
    if let Some(prefix) = prefix {
        out.extend_from_slice(prefix.as_bytes());
        out.push(b':');
    }
    out.extend_from_slice(element.name().as_bytes());
}

pub(crate) fn write_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape(value, true, out);
    out.push(b'\'');
}

fn escape(text: &str, attribute: bool, out: &mut Vec<u8>) {
    let mut copied = 0;
    for (at, character) in text.char_indices() {
        let replacement: &str = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' if attribute => "&apos;",
            // A parser turns these into others unless they are written as references.
            '\t' if attribute => "&#x9;",
            '\n' if attribute => "&#xa;",
            '\r' => "&#xd;",
            '\t' | '\n' => continue,
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[copied..at]);
        out.extend_from_slice(replacement.as_bytes());
        copied = at + character.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
}
