"""Remove credentials from texts that are shown or recorded: user names, passwords and tokens in addresses."""

from __future__ import annotations

import re

HIDDEN = "***"

# scheme://user:password@host. A password may have an unencoded @, / or ?, so it reaches to the last @ of the word,
# unless a port and a path follow the colon
USERINFO = re.compile(
    r"""(?P<scheme>[a-z][a-z0-9+.-]*://)
        (?: [^\s/@:'"]* : (?!\d+(?:[/?\#]|$)) [^\s'"]*   # user:password, with any characters
          | [^\s/?\#'"]*                                  # a token, or user:password without a slash
        ) @""",
    re.X | re.I,
)
# user:password@host:port without a scheme, as people write proxies. Not name:tag@sha256:…, which is a container image
BARE = re.compile(r"(?<![\w/.%+-])[\w.%+-]+:[^\s/@'\"]+@(?!sha256:)(?=[\w\[])")
QUERY = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^\s'\"?]*\?)(?P<query>[^\s'\"#]+)", re.I)


def redacted(text: str) -> str:
    """Return a text with `***` for the user and password of each address, and for each value of its query string."""
    if "@" in text:
        text = USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
        text = BARE.sub(f"{HIDDEN}@", text)
    if "?" in text:
        text = QUERY.sub(lambda match: match["start"] + re.sub(r"=[^&]*|^[^=&]+$", _hide, match["query"]), text)
    return text


def _hide(match: re.Match[str]) -> str:
    return f"={HIDDEN}" if match[0].startswith("=") else HIDDEN
