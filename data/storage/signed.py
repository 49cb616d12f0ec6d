"""Reads of S3 objects under a signature that is made once for some minutes and not for every range.

botocore resolves, signs and parses each request anew, which takes as much processor time as turning the range into
batches. A signature need not cover `Range`, so the first read of an object goes through botocore, and later ones send
its signature again, over botocore's own connections. Whatever is not a plain success is left to botocore.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import HTTPClientError
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies

FRESH = 300.0
"""Seconds that a signature is used; S3 takes it for 15 minutes."""
MOST_OBJECTS = 4096
SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/(?P<region>[^/,]+)/s3/aws4_request,")
REFUSED = (400, 401, 403)


@dataclass(frozen=True)
class Signed:
    """Where an object was found, the headers that sign a read of it, and when they were made."""

    url: str
    headers: Mapping[str, str]
    made: float


class SignedReads:
    """Signatures of the objects that a client has read, and the connections to use them on. Threads may share one."""

    def __init__(self, session: Any, client: Any, connect: float, read: float) -> None:
        """`session` is botocore's, `client` made of it; `connect` and `read` are timeouts in seconds."""
        self._session = session
        self._signed: OrderedDict[str, Signed] = OrderedDict()
        self._lock = threading.Lock()
        self._sent = threading.local()
        self._usable = True
        self._http = URLLib3Session(
            verify=session.get_config_variable("ca_bundle") or True,
            proxies=get_environ_proxies(client.meta.endpoint_url),
            timeout=(connect, read),
            max_pool_connections=client.meta.config.max_pool_connections,
            socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )
        client.meta.events.register("before-send.s3.GetObject", self._before_send)

    def get(self, key: str, headers: Mapping[str, str]) -> Any | None:
        """The answer to a read with `headers` (Range, If-Match), its body not yet read; None: ask through botocore."""
        signed = self._signed.get(key)
        if signed is None or time.monotonic() - signed.made > FRESH:
            return None
        request = AWSPreparedRequest("GET", signed.url, {**signed.headers, **headers}, None, True)
        try:
            answer = self._http.send(request)
        except HTTPClientError:
            return None
        if answer.status_code in (200, 206) and "content-length" in answer.headers:
            return answer
        answer.raw.close()
        if answer.status_code in REFUSED:
            # A server that wants every header signed, say. Asking twice for every range would be worse than once.
            self._usable = False
        with self._lock:
            self._signed.pop(key, None)
        return None

    def learn(self, key: str) -> None:
        """Sign what this thread has just read through botocore, for later reads."""
        url, authorization = self._sent.last
        scope, credentials = SCOPE.match(authorization), self._session.get_credentials()
        if not self._usable or scope is None or credentials is None:
            return
        request = AWSRequest("GET", url)
        S3SigV4Auth(credentials.get_frozen_credentials(), "s3", scope["region"]).add_auth(request)
        with self._lock:
            self._signed[key] = Signed(url, dict(request.headers.items()), time.monotonic())
            while len(self._signed) > MOST_OBJECTS:
                self._signed.popitem(last=False)

    def _before_send(self, request: AWSPreparedRequest, **_: Any) -> None:
        authorization = request.headers.get("Authorization", b"")
        text = authorization.decode() if isinstance(authorization, bytes) else authorization
        self._sent.last = request.url, text
