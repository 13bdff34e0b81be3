-- Session control for Prosody: one component opens, uses and ends sessions of local users.
--
-- Load it on each virtual host whose users are served; the component itself is an ordinary one (XEP-0114).
-- The verbs are those of jabberd2's session manager, in <route/> elements: docs/protocol/xmpp.md has them.
--
--   VirtualHost "corp.example"
--     modules_enabled = { "session_control" }
--     session_control_components = { "connector.corp.example" }
--
-- A component in that list can act as every user of the host: keep its secret, and its port, to itself.

local st = require "util.stanza";
local jid_split = require "util.jid".split;
local uuid_generate = require "util.uuid".generate;
local new_session = require "util.session";
local filters = require "util.filters";
local logger = require "util.logger";
local user_exists = require "core.usermanager".user_exists;
local sessionmanager = require "core.sessionmanager";

local xmlns_route = "http://jabberd.jabberstudio.org/ns/component/1.0";
local xmlns_session = "http://jabberd.jabberstudio.org/ns/session/1.0";
-- Prosody's spelling of an attribute with a namespace.
local attr_ours = xmlns_session .. "\1c2s"; -- the component's id of a session
local attr_theirs = xmlns_session .. "\1sm"; -- ours
local attr_failed = xmlns_session .. "\1failed";

local allowed = module:get_option_set("session_control_components", {});

-- The sessions that each link has opened: component session -> our id -> session.
local links = setmetatable({}, { __mode = "k" });

local function to_link(link, from, payload)
	if link.type ~= "component" then return; end -- it is gone, and its sessions with it
	link.send(st.stanza("route", { xmlns = xmlns_route, from = from, to = link.host }):add_child(payload));
end

local function verb(session, action, id)
	return st.stanza("session", {
		xmlns = xmlns_session;
		[attr_ours] = session.control_ours;
		[attr_theirs] = session.control_id;
		action = action;
		target = session.full_jid;
		id = id;
	});
end

-- Contacts are told while the session still exists; afterwards nobody could.
local function destroy(session, text)
	if session.destroyed then return; end
	links[session.control_link][session.control_id] = nil;
	if session.presence then
		local gone = st.presence({ type = "unavailable" });
		if text then gone:text_tag("status", text); end
		prosody.core_process_stanza(session, gone);
	end
	sessionmanager.destroy_session(session, text);
end

local function end_all(link)
	local sessions = links[link];
	links[link] = nil;
	if not sessions then return; end
	links[link] = {}; -- what ends now still looks here
	for _, session in pairs(sessions) do
		destroy(session, "Disconnected: the link was lost");
	end
	links[link] = nil;
end

-- The server ends a session by itself: another one took its resource, or the account is gone.
local function close(session, reason)
	if session.destroyed then return; end
	local condition = type(reason) == "table" and reason.condition or reason;
	to_link(session.control_link, session.host, verb(session, condition == "conflict" and "replaced" or "ended"));
	destroy(session, type(reason) == "table" and reason.text or nil);
end

local function open(link, ours, username, resource)
	local session = new_session.new("c2s");
	new_session.set_id(session);
	new_session.set_logger(session);
	session.log = logger.init(session.id);
	session.type = "c2s_unbound";
	session.username, session.host = username, module.host;
	session.ip = link.ip or "127.0.0.1";
	session.secure = true; -- as secure as the link
	session.conntime = os.time();
	session.control_link, session.control_ours, session.control_id = link, ours, uuid_generate();
	session.close = close;
	session.rawsend = function () end; -- there is no stream of its own
	local filter = filters.initialize(session); -- so that other modules still see what passes
	session.send = function (stanza)
		if not st.is_stanza(stanza) then return true; end -- white space, to keep a stream alive
		stanza = filter("stanzas/out", stanza);
		if not stanza then return true; end
		local marked = st.clone(stanza);
		marked.attr.xmlns = "jabber:client";
		marked.attr[attr_ours], marked.attr[attr_theirs] = session.control_ours, session.control_id;
		to_link(link, session.host, marked);
		return true;
	end;
	local bound, _, condition, text = sessionmanager.bind_resource(session, resource);
	if not bound then return nil, text or condition; end
	links[link][session.control_id] = session;
	return session;
end

-- A refusal is the request itself, sent back with a mark.
local function refuse(link, payload, namespaced)
	local returned = st.clone(payload);
	returned.attr[namespaced and attr_failed or "failed"] = "1";
	to_link(link, module.host, returned);
end

local function start(link, request)
	local username, host, resource = jid_split(request.attr.target);
	local ours = request.attr[attr_ours];
	if not (username and resource and ours) or host ~= module.host or not user_exists(username, host) then
		return refuse(link, request, true);
	end
	local session, why = open(link, ours, username, resource);
	if not session then
		module:log("warn", "No session for %s: %s", request.attr.target, why);
		return refuse(link, request, true);
	end
	to_link(link, module.host, verb(session, "started", request.attr.id));
end

local function handle_verb(link, request)
	local action = request.attr.action;
	local session = links[link][request.attr[attr_theirs] or ""];
	if action == "start" then
		start(link, request);
	elseif action == "end" and session then
		local ended = verb(session, "ended", request.attr.id);
		destroy(session);
		to_link(link, module.host, ended);
	else
		refuse(link, request, true);
	end
end

-- On a component's stream "jabber:client" is a foreign namespace; on a client's it goes without saying.
local as_of_client;
function as_of_client(element)
	if element.attr.xmlns ~= "jabber:client" then return element; end
	element.attr.xmlns = nil;
	return element:maptags(as_of_client);
end

local function handle_stanza(link, payload)
	local session = links[link][payload.attr[attr_theirs] or ""];
	if not session or session.control_ours ~= payload.attr[attr_ours] then
		return refuse(link, payload);
	end
	local stanza = as_of_client(st.clone(payload));
	stanza.attr[attr_ours], stanza.attr[attr_theirs] = nil, nil;
	stanza.attr.from = session.full_jid; -- whatever the component says
	stanza = session.filter("stanzas/in", stanza);
	if stanza then prosody.core_process_stanza(session, stanza); end
end

module:hook("stanza/" .. xmlns_route .. ":route", function (event)
	local link, route = event.origin, event.stanza;
	if link.type ~= "component" or not allowed:contains(link.host) then
		module:log("warn", "A route from %s, which may not control sessions", link.host or link.full_jid or "a stranger");
		return; -- unhandled: the sender is told so
	end
	if not links[link] then
		links[link] = {};
		-- With the link go its sessions, at once.
		local on_destroy = link.on_destroy;
		link.on_destroy = function (...)
			if on_destroy then on_destroy(...); end
			end_all(link);
		end;
	end
	local payload = route.tags[1];
	if not payload then return true; end
	if payload.name == "session" and payload.attr.xmlns == xmlns_session then
		handle_verb(link, payload);
	elseif payload.attr.xmlns == "jabber:client" then
		handle_stanza(link, payload);
	end
	return true;
end);

function module.unload()
	for link in pairs(links) do end_all(link); end
end
