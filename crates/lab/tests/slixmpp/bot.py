"""A client made by others (slixmpp), driven line by line: JSON commands on stdin, JSON events on stdout.

Usage: bot.py HOST PORT JID PASSWORD [MECHANISM]

With COPIES=off in the environment it does not ask for copies (XEP-0280): jabberd2 answers that in a way that it does not hear.
PRIORITY is that of its presence.
"""

import asyncio
import json
import os
import sys

import slixmpp


def tell(**event):
    print(json.dumps(event), flush=True)


class Bot(slixmpp.ClientXMPP):
    def __init__(self, jid, password, mechanism):
        super().__init__(jid, password, sasl_mech=mechanism)
        for plugin in ("xep_0030", "xep_0066", "xep_0085", "xep_0198", "xep_0199", "xep_0203", "xep_0280", "xep_0333"):
            self.register_plugin(plugin)
        self.enable_direct_tls = False
        self.enable_starttls = False
        self.enable_plaintext = True
        self.plugin["feature_mechanisms"].unencrypted_plain = True
        self.plugin["feature_mechanisms"].unencrypted_scram = True
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("session_resumed", lambda _: tell(event="resumed"))
        self.add_event_handler("failed_all_auth", lambda _: tell(event="refused"))
        self.add_event_handler("disconnected", self.lost)
        self.add_event_handler("message", self.message)
        self.add_event_handler("carbon_received", lambda m: self.copy("received", m["carbon_received"]))
        self.add_event_handler("carbon_sent", lambda m: self.copy("sent", m["carbon_sent"]))
        self.add_event_handler("chatstate_composing", lambda m: tell(event="typing", peer=m["from"].bare))
        self.add_event_handler("marker_displayed", lambda m: tell(event="read", id=m["displayed"]["id"]))
        self.add_event_handler("changed_status", self.presence)
        self.leaving = False

    async def start(self, _event):
        if os.environ.get("COPIES") != "off":
            await self.plugin["xep_0280"].enable()
        self.send_presence(ppriority=os.environ.get("PRIORITY"))
        roster = await self.get_roster()
        items = sorted(str(item["jid"]) for item in roster["roster"])
        info = await self.plugin["xep_0030"].get_info(jid=self.boundjid.domain)
        tell(event="ready", jid=str(self.boundjid), roster=items, features=sorted(info["disco_info"]["features"]))

    def lost(self, _reason):
        tell(event="lost")
        if not self.leaving:
            self.connect(*self.address_of_lab)

    def message(self, message):
        if message["type"] in ("chat", "normal") and message["body"]:
            late = bool(message["delay"]["stamp"]) if message.get_plugin("delay", check=True) else False
            tell(event="message", peer=message["from"].bare, id=message["id"], body=message["body"], late=late)
        elif message["type"] == "error":
            tell(event="error", id=message["id"], condition=message["error"]["condition"])

    def copy(self, direction, message):
        if message["body"]:
            peer = message["to"] if direction == "sent" else message["from"]
            tell(event="copy", direction=direction, peer=peer.bare, body=message["body"])

    def presence(self, presence):
        if presence["from"].bare != self.boundjid.bare:
            kind = presence["type"]
            tell(event="presence", peer=presence["from"].bare, show=kind, status=presence["status"])

    async def commands(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            if command["do"] == "say":
                message = self.make_message(mto=command["to"], mbody=command["body"], mtype="chat")
                if "id" in command:
                    message["id"] = command["id"]
                message.send()
            elif command["do"] == "read":
                message = self.make_message(mto=command["to"], mtype="chat")
                message["displayed"]["id"] = command["id"]
                message.send()
            elif command["do"] == "file":
                message = self.make_message(mto=command["to"], mbody=command["url"], mtype="chat")
                message["oob"]["url"] = command["url"]
                message.send()
            elif command["do"] == "type":
                message = self.make_message(mto=command["to"], mtype="chat")
                message["chat_state"] = "composing"
                message.send()
            elif command["do"] == "status":
                self.send_presence(pshow=command["show"], pstatus=command["status"])
            elif command["do"] == "ping":
                await self.plugin["xep_0199"].ping(jid=command["to"])
                tell(event="pong")
        self.leaving = True
        await self.disconnect()


async def main():
    host, port, jid, password, *rest = sys.argv[1:]
    bot = Bot(jid, password, rest[0] if rest else None)
    bot.address_of_lab = (host, int(port))
    bot.connect(host, int(port))
    await bot.commands()


asyncio.run(main())
