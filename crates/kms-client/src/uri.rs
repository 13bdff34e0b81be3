//! Names in the key service: `kms://<host>/<kind>/<id>`, each kind its own type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The text is not a `kms://` URI of the kind that was needed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a {0} URI")]
pub struct UriError(&'static str);

/// The longest URI that is taken, in bytes.
const MAX_URI: usize = 512;

/// Host and path of a `kms://` URI, if it is one of sane size and spelling.
fn split(uri: &str) -> Option<(&str, &str)> {
    if uri.len() > MAX_URI || !uri.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (scheme, rest) = uri.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    (scheme.eq_ignore_ascii_case("kms") && !host.is_empty()).then_some((host, path))
}

macro_rules! uri {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $segment:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Names the one with this id at the given cluster.
            ///
            /// # Errors
            /// [`UriError`] if the id is empty, too long, or has a character that has no place in a path segment.
            pub fn new(cluster: &ClusterUri, id: &str) -> Result<Self, UriError> {
                format!(concat!("{}/", $segment, "/{}"), cluster, id).parse()
            }

            /// The cluster that made it.
            #[must_use]
            pub fn cluster(&self) -> ClusterUri {
                let host = split(&self.0).map_or("", |(host, _)| host);
                ClusterUri(format!("kms://{host}").into())
            }

            /// The URI as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = UriError;

            fn from_str(uri: &str) -> Result<Self, UriError> {
                split(uri)
                    .and_then(|(_, path)| path.strip_prefix(concat!($segment, "/")))
                    .filter(|id| !id.is_empty() && !id.contains(['/', '?', '#']))
                    .map(|_| Self(uri.into()))
                    .ok_or(UriError($kind))
            }
        }

        impl TryFrom<String> for $name {
            type Error = UriError;

            fn try_from(uri: String) -> Result<Self, UriError> {
                uri.parse()
            }
        }

        impl From<$name> for String {
            fn from(uri: $name) -> Self {
                uri.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uri!(
    /// A key of a conversation: `kms://<host>/keys/<uuid>`.
    KeyUri,
    "key",
    "keys"
);
uri!(
    /// What keys are bound to and people are authorized on: `kms://<host>/resources/<uuid>`.
    ResourceUri,
    "resource",
    "resources"
);
uri!(
    /// A key shared between one device and its KMS: `kms://<host>/ecdhe/<uuid>`.
    EphemeralUri,
    "ephemeral key",
    "ecdhe"
);

/// One key service: `kms://<host>`. Several of them may occur in one conversation.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterUri(Arc<str>);

impl ClusterUri {
    /// The host, as it was written.
    #[must_use]
    pub fn host(&self) -> &str {
        split(&self.0).map_or("", |(host, _)| host)
    }

    /// The cluster that the URI of its static key belongs to (`kms://<host>/<anything>`).
    ///
    /// # Errors
    /// [`UriError`] if `kid` is not a `kms://` URI.
    pub fn of(kid: &str) -> Result<Self, UriError> {
        let (host, _) = split(kid).ok_or(UriError("KMS"))?;
        Ok(Self(format!("kms://{host}").into()))
    }

    /// The URI as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterUri {
    type Err = UriError;

    fn from_str(uri: &str) -> Result<Self, UriError> {
        match split(uri) {
            Some((_, "")) => Ok(Self(uri.trim_end_matches('/').into())),
            _ => Err(UriError("cluster")),
        }
    }
}

impl TryFrom<String> for ClusterUri {
    type Error = UriError;

    fn try_from(uri: String) -> Result<Self, UriError> {
        uri.parse()
    }
}

impl From<ClusterUri> for String {
    fn from(uri: ClusterUri) -> Self {
        uri.0.as_ref().into()
    }
}

impl fmt::Display for ClusterUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
