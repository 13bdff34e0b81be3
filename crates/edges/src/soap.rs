//! A SOAP request as the HTTP client takes it: whoever asks writes it, and reads what comes back.

use bytes::Bytes;
use webex_api::endpoint::{Context, Destination, Endpoint};
use webex_api::{ApiError, Url};

/// One request to one address.
pub(crate) struct Call {
    pub(crate) request: http::Request<Bytes>,
    pub(crate) address: Url,
}

impl Endpoint for Call {
    type Response = http::Response<Bytes>;

    fn destination(&self) -> Destination<'_> {
        Destination::Address(&self.address)
    }

    fn into_http(self, _: &Context<'_>) -> Result<http::Request<Bytes>, ApiError> {
        Ok(self.request)
    }

    fn from_http(response: http::Response<Bytes>) -> Result<Self::Response, ApiError> {
        Ok(response)
    }
}

#[cfg(test)]
pub(crate) mod far {
    //! A service on pipes that answers as it is told to.

    use std::convert::Infallible;
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use webex_api::client::{Http, HttpConfig};

    use crate::seam::{BoxIo, Dial, Generator};
    use crate::webex::http_client;

    /// Makes a status and a body of a body.
    type Script = dyn FnMut(&str) -> (u16, String) + Send;

    #[derive(Clone)]
    pub(crate) struct Service(Arc<Mutex<Script>>);

    impl Service {
        pub(crate) fn new(script: impl FnMut(&str) -> (u16, String) + Send + 'static) -> Self {
            Self(Arc::new(Mutex::new(script)))
        }

        /// A client that reaches it, whatever the address.
        pub(crate) fn client(&self) -> Http {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            let config = HttpConfig::new(Arc::new(tls));
            http_client(config, Arc::new(self.clone()), &Generator::seeded(1)).unwrap()
        }
    }

    impl Dial for Service {
        fn dial<'a>(
            &'a self,
            _: &'a str,
            _: u16,
        ) -> Pin<Box<dyn Future<Output = io::Result<BoxIo>> + Send + 'a>> {
            let (near, far) = tokio::io::duplex(1 << 16);
            let script = Arc::clone(&self.0);
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let script = Arc::clone(&script);
                async move {
                    let asked = request.into_body().collect().await.unwrap().to_bytes();
                    let asked = String::from_utf8(asked.to_vec()).unwrap();
                    let (status, text) = (script.lock().unwrap())(&asked);
                    let answer = http::Response::builder().status(status).body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            tokio::spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(far), answer)
                    .await;
            });
            Box::pin(async { Ok(Box::new(near) as BoxIo) })
        }
    }
}
