"""The words that give away a text which is meant for the model rather than for what it describes. Tables only.

What is looked for has been seen in published attacks: tool poisoning, rug pulls, shadowing, parameters that carry the
conversation away. Each pattern asks for several words together, because a single one stands in many honest texts.
"""

import re
from typing import Final

_GUARDED: Final = (
    r"(?:passwords?|passphrases?|private keys?|ssh keys?|api keys?|access tokens?|credentials|secrets"
    r"|environment variables)"
)
_PERSON: Final = r"(?:[\w-]+ ){0,3}(?:users?|humans?|people|person|operator)\b"
_SILENCE: Final = (
    r"(?:tell|tells|telling|inform|informing|mention|mentioning|reveal|notify|notifying|disclose|alert|warn)\b"
)

ORDERS: Final = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.!?]{0,30}"
    r"\b(?:instructions?|prompts?|rules|guidelines|guardrails|safety|restrictions)\b"
    rf"|\b(?:do not|don['\u2019]?t|never|must not|should not|avoid) (?:ever )?{_SILENCE}[^.!?]{{0,40}}?{_PERSON}"
    rf"|\bwithout (?:telling|informing|notifying|asking|alerting) {_PERSON}"
    rf"|\b(?:hide|conceal)\b[^.!?]{{0,20}}\bfrom {_PERSON}"
    r"|\bkeep (?:this|it) (?:a )?(?:secret|hidden|confidential)\b"
    r"|<\s*/?\s*(?:important|system|secret|instructions?|hidden|admin|assistant|system[-_]reminder)\s*>"
    r"|<\|[a-z_]{2,20}\|>|\[/?(?:INST|SYSTEM|SYS)\]|<<SYS>>"
    r"|\b(?:reveal|print|repeat|output|send|include|leak)\b[^.!?]{0,30}\bsystem prompt\b"
    r"|\byou are now (?:a|an|in|the)\b|\bfrom now on,? you\b"
    r"|\byour (?:new|real|true) (?:task|role|instructions|goal)\b"
    r"|\bbefore (?:using|calling|invoking|running) (?:any|all|every)(?: other| of the)? tools?\b",
    re.IGNORECASE,
)
"""Instructions to the model."""

ORDERS_NEED: Final = (
    *(
        "ignore",
        "disregard",
        "forget",
        "override",
        "bypass",
        "tell",
        "inform",
        "mention",
        "reveal",
        "notif",
        "disclose",
    ),
    *("alert", "warn", "asking", "hide", "conceal", "keep", "<", "[inst", "[/inst", "[sys", "[/sys", "system prompt"),
    *("you are now", "now on", "your new", "your real", "your true", "before "),
)
"""One of these, in small letters, is in every text in which ``ORDERS`` finds something."""

SECRETS: Final = re.compile(
    r"(?:~|\$HOME|/home/[^/\s]+|/root)?/?\.(?:ssh|gnupg)(?:/|\b)|\bid_(?:rsa|ed25519|ecdsa|dsa)\b"
    r"|\.aws/credentials|\.kube/config|\.docker/config\.json|\.git-credentials|/etc/(?:passwd|shadow|sudoers)\b"
    r"|(?:^|[\s\"'`(/])\.(?:netrc|npmrc|pypirc|pgpass)\b"
    r"|(?:^|[\s\"'`(/])\.env(?:\.(?:local|production|development))?(?=$|[\s\"'`),;:.])"
    r"|(?:\.cursor|\.vscode)/mcp\.json|claude_desktop_config\.json|\.claude\.json"
    rf"|\b(?:read|send|upload|collect|gather|steal|exfiltrate|forward|attach|paste)\b[^.!?]{{0,40}}\b{_GUARDED}",
    re.IGNORECASE,
)
"""Requests to read what should stay where it is."""

SECRETS_NEED: Final = (
    *(".ssh", ".gnupg", "id_", "credentials", ".kube", ".docker", "/etc/", ".netrc", ".npmrc", ".pypirc", ".pgpass"),
    *(".env", "mcp.json", "claude_desktop", ".claude", "password", "passphrase", " key", "token", "secret", "environ"),
)
"""The same for ``SECRETS``."""

CARRIERS: Final = re.compile(
    r"\b(?:entire|full|whole|complete|all(?: of)?(?: the)?(?: previous)?)\b[^.!?]{0,15}"
    r"\b(?:conversation|chat (?:history|log)|message history|chain of thought)\b",
    re.IGNORECASE,
)
"""Descriptions of parameters that carry the conversation away."""

CARRIERS_NEED: Final = ("conversation", "chat ", "message history", "chain of thought")
"""The same for ``CARRIERS``."""

CARRIER_NAMES: Final = frozenset(
    {
        *("sidenote", "conversation", "conversationhistory", "conversationcontext", "fullconversation"),
        *("chathistory", "chatlog", "messagehistory", "previousmessages", "systemprompt", "chainofthought"),
        *("toolslist", "toollist", "toolcallhistory", "modelcontext", "usersecrets"),
    }
)
"""Names of such parameters, in small letters and without anything between the words."""
