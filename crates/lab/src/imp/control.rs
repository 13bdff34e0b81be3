//! Session control: what a trusted link asks for, and what the server says on it.

use xmpp_core::session_control::{self as sc, Request, RequestIds, StartRequest};
use xmpp_core::xml::Compose as _;
use xmpp_core::{Element, ns};

use super::queries::answer_server;
use super::stanza;
use super::state::{State, WireId};
use crate::people::{DOMAIN, SECOND_DOMAIN};

impl State {
    /// Something came on a trusted link.
    pub(crate) fn take_from_link(&mut self, wire: WireId, element: Element) {
        match sc::parse_request(&element) {
            Some(Request::Start(request)) => self.start(wire, request),
            Some(Request::Create(request)) => {
                let known = self.is_account(&request.target.to_bare().to_string());
                self.push_control(wire, if known { sc::created(&request) } else { sc::refused(&request) });
            }
            Some(Request::End(ids)) => self.end(wire, &ids),
            Some(Request::Stanza(ids, stanza)) => self.take_from_route(wire, &ids, stanza),
            Some(_) => {}
            None => self.outside_sessions(wire, &element),
        }
    }

    fn start(&mut self, wire: WireId, mut request: StartRequest) {
        self.settle_link(wire);
        if self.ctx.faults.is_on("imp-link-noise") && !self.routes.keys().any(|(other, _)| *other == wire) {
            let question = Element::bare("iq", ns::CLIENT)
                .with_attr("type", "get")
                .with_attr("from", request.domain.clone())
                .with_attr("to", request.component.clone())
                .with_attr("id", format!("noise-{}", self.number()))
                .with_child(Element::bare("query", stanza::DISCO_INFO));
            let route = Element::bare("route", ns::ROUTE)
                .with_attr("to", request.component.clone())
                .with_attr("from", request.domain.clone())
                .with_child(question);
            self.push_control(wire, route);
        }
        let bare = request.target.to_bare().to_string();
        if self.strikes("imp-binds-another", &bare)
            && let Ok(another) = format!("{}-another", request.target).parse()
        {
            request.target = another;
        }
        let resource = request.target.resource().map(|resource| resource.to_string());
        let served = [DOMAIN, SECOND_DOMAIN].contains(&request.domain.as_str())
            && request.target.domain().as_str() == request.domain;
        let (Some(resource), true, true) = (resource, served, self.is_account(&bare)) else {
            return self.push_control(wire, sc::refused(&request));
        };
        let node = self.wires.get(&wire).and_then(|wire| wire.node);
        if self.strikes("imp-refuses-sessions", &bare) || node != Some(self.ctx.nodes.serving(&bare)) {
            return self.push_control(wire, sc::refused(&request));
        }
        let sm = format!("{:016x}", u64::from_be_bytes(self.ctx.rng.bytes()));
        let ids = RequestIds {
            component: request.component.clone(),
            domain: request.domain.clone(),
            c2s: request.c2s.clone(),
            sm: sm.clone(),
        };
        if let Some((other, resource)) = self.routes.get(&(wire, request.c2s.clone())).cloned() {
            self.end_session(&other, &resource); // the component reuses its id
        }
        self.bind(&bare, &resource, wire, Some(ids));
        self.push_control(wire, sc::started(&request, &sm));
    }

    fn end(&mut self, wire: WireId, ids: &RequestIds) {
        if let Some((bare, resource)) = self.session_of(wire, ids) {
            self.end_session(&bare, &resource);
        }
        self.push_control(wire, sc::ended(ids));
    }

    fn take_from_route(&mut self, wire: WireId, ids: &RequestIds, stanza: Element) {
        let Some((bare, resource)) = self.session_of(wire, ids) else {
            return self.push_control(wire, sc::bounced(ids, stanza));
        };
        if stanza.name() == "message" {
            if self.strikes("imp-replaces-sessions", &bare) {
                self.replace(&bare, &resource);
                return self.push_control(wire, sc::bounced(ids, stanza));
            }
            if self.strikes("imp-bounces-routes", &bare) {
                return self.push_control(wire, sc::bounced(ids, stanza));
            }
        }
        self.take_from_session(&bare, &resource, stanza);
    }

    /// What a link says that is not about a session: it may ask the server itself.
    fn outside_sessions(&mut self, wire: WireId, element: &Element) {
        if element.name() != "iq" || !matches!(element.attr("type"), Some("get" | "set")) {
            return;
        }
        let (from, to) = (element.attr("to").unwrap_or(DOMAIN), element.attr("from").unwrap_or_default());
        let answer = answer_server(element, from, to, self.time())
            .unwrap_or_else(|| stanza::error(element, from, to, "cancel", "service-unavailable"));
        self.push_control(wire, answer);
    }

    /// Whose session it is; both ids must be right.
    fn session_of(&self, wire: WireId, ids: &RequestIds) -> Option<(String, String)> {
        let (bare, resource) = self.routes.get(&(wire, ids.c2s.clone()))?;
        let session = self.users.get(bare)?.sessions.get(resource)?;
        let same = session.ids.as_ref().is_some_and(|known| known.sm == ids.sm);
        same.then(|| (bare.clone(), resource.clone()))
    }

    /// A session sends a stanza; the server knows better than the sender from whom it is.
    pub(crate) fn take_from_session(&mut self, bare: &str, resource: &str, stanza: Element) {
        let stanza = stanza.with_attr("from", format!("{bare}/{resource}"));
        match stanza.name() {
            "message" => self.message_from_session(bare, resource, stanza),
            "presence" => self.presence_from_session(bare, resource, stanza),
            "iq" => self.iq_from_session(bare, resource, stanza),
            _ => {}
        }
    }
}
