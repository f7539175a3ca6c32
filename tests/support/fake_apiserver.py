#!/usr/bin/env python3
"""A Kubernetes API server as far as a node proxy can tell, and one that misbehaves on demand.

It lists, streams lists (sendInitialEvents) and watches services, endpointslices, servicecidrs and
nodes with label and field selectors, pages, bookmarks, expiry and the headers of the real one, and
takes events. Python's standard library only.

    fake_apiserver.py [--port N] [--token T] [--load FILE] [--generate SERVICESxENDPOINTS] ...

The first line on standard output is "port N". It is told what to do by JSON, one command a line on
standard input (one line of JSON answers), or POSTed to /_control (a command or a list of them):

    {"op": "put", "object": {...}}            create or update, "objects": [...] for several
    {"op": "delete", "kind": "Service", "namespace": "a", "name": "b"}
    {"op": "touch_endpoint", "n": 17}         of generated objects: another address in slice 17
    {"op": "touch_service", "n": 17}          another port of service 17; "hide_service": a label
    {"op": "remove_service", "n": 17}, {"op": "remove_slice", "n": 17}
    {"op": "load", "rate": 200, "count": 2000} touch_endpoint at a rate, of slices all over; at once
    {"op": "bookmark"}                        to all watches now
    {"op": "compact"}                         forget history: older watches get 410
    {"op": "expire_continue"}                 continue tokens get 410
    {"op": "break", "how": HOW, "resource": R} what runs: "end" "abort" "mid-object" "mid-chunk"
                                              "stall" "garbage" "error" (with "code")
    {"op": "fault", "how": HOW, ...}          what comes next: see Fault
    {"op": "clear_faults"} {"op": "drop"}     all connections {"op": "reset"} to the start
    {"op": "set", "token": T, "delay": {"services": 0.2}, "watchlist": false, "duplicate": true,
     "protobuf": false, "parameters": true}   of types accepted: taken, and without effect
    {"op": "requests"} {"op": "objects"} {"op": "events"} {"op": "state"} {"op": "quit"}

GET /_control/requests, /_control/objects and so on answer the same as those last ones. Single objects can also
be written by POST, PUT and DELETE, as with the real one.
"""
import argparse
import asyncio
import base64
import gzip
import json
import logging
import os
import socket
import ssl
import struct
import sys
import time
import urllib.parse
import uuid
from collections import deque

import protobuf

RESOURCES = {
    "services": ("v1", "Service", "/api/v1/services", True),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice",
                       "/apis/discovery.k8s.io/v1/endpointslices", True),
    "servicecidrs": ("networking.k8s.io/v1", "ServiceCIDR",
                     "/apis/networking.k8s.io/v1/servicecidrs", False),
    "nodes": ("v1", "Node", "/api/v1/nodes", False),
}
EMPTY = {
    "services": {"spec": {}, "status": {"loadBalancer": {}}},
    "endpointslices": {"addressType": "", "endpoints": None, "ports": None},
    "servicecidrs": {"spec": {}, "status": {}},
    "nodes": {"spec": {}, "status": {}},
}
KINDS = {kind: name for name, (_, kind, _, _) in RESOURCES.items()}
PATHS = {path: name for name, (_, _, path, _) in RESOURCES.items()}
HISTORY = 20000
FIRST_RV = 100
GZIP_FROM = 128 * 1024
JSON, PROTOBUF = "application/json", "application/vnd.kubernetes.protobuf"
PIECE = 2048  # of the real one's buffer: chunks end where it is full, not where an object ends


def dump(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunks(data, size):
    return b"".join(chunk(data[at:at + size]) for at in range(0, len(data), size))


def encoded(obj, encoding):
    """An object that is an answer by itself."""
    if encoding == PROTOBUF:
        return protobuf.body(obj["apiVersion"], obj["kind"], protobuf.encode(obj["kind"], obj))
    return dump(obj) + b"\n"


def encoded_event(kind, obj, encoding):
    if encoding == PROTOBUF:
        return protobuf.frame(kind, encoded(obj, encoding))
    return dump({"type": kind, "object": obj}) + b"\n"


def status_body(code, reason, message, **more):
    return {"kind": "Status", "apiVersion": "v1", "metadata": more.pop("metadata", {}),
            "status": "Failure", "message": message, "reason": reason, **more, "code": code}


REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired",
           422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable",
           504: "Timeout", 406: "NotAcceptable", 415: "UnsupportedMediaType"}
PHRASES = {200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
           404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 409: "Conflict", 410: "Gone", 415: "Unsupported Media Type",
           422: "Unprocessable Entity",
           429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
           504: "Gateway Timeout"}


class Item:
    """One version of an object, with the bytes that lists and events are made of."""
    __slots__ = ("key", "rv", "labels", "fields", "body", "_event", "_message", "source")

    def __init__(self, resource, obj, rv):
        version, kind, _, namespaced = RESOURCES[resource]
        meta = obj["metadata"]
        self.key = (meta.get("namespace", "") if namespaced else "", meta["name"])
        self.rv = rv
        self.labels = meta.get("labels") or {}
        self.fields = {"metadata.name": meta["name"], "metadata.namespace": self.key[0]}
        if resource == "services":
            self.fields["spec.clusterIP"] = obj.get("spec", {}).get("clusterIP", "")
            self.fields["spec.type"] = obj.get("spec", {}).get("type", "ClusterIP")
        body = {"metadata": {**meta, "resourceVersion": str(rv)}}
        body.update((k, v) for k, v in obj.items() if k not in ("metadata", "kind", "apiVersion"))
        self.source = {"apiVersion": version, "kind": kind, **body}
        self.body = dump(body)
        self._event = None
        self._message = None

    def message(self):
        """The object as protobuf; made when it is first asked for."""
        if self._message is None:
            self._message = protobuf.encode(self.source["kind"], self.source)
        return self._message

    def protobuf_event(self, kind):
        return protobuf.frame(kind, protobuf.body(self.source["apiVersion"], self.source["kind"], self.message()))

    def typed(self):
        head = dump({"kind": self.source["kind"], "apiVersion": self.source["apiVersion"]})
        return head[:-1] + b"," + self.body[1:]

    def event(self, kind, encoding):
        if encoding == PROTOBUF:
            return self.protobuf_event(kind)
        if kind != "ADDED":
            return b'{"type":"' + kind.encode() + b'","object":' + self.typed() + b"}\n"
        if self._event is None:
            self._event = b'{"type":"ADDED","object":' + self.typed() + b"}\n"
        return self._event


class Selector:
    def __init__(self, labels, fields):
        self.text = (labels, fields)
        self.labels = [t for t in labels.split(",") if t]
        self.fields = [t for t in fields.split(",") if t]

    def matches(self, item):
        return (all(self.label(t, item.labels) for t in self.labels) and
                all(self.field(t, item.fields) for t in self.fields))

    @staticmethod
    def label(term, labels):
        if term.startswith("!"):
            return term[1:] not in labels
        for sign in ("!=", "==", "="):
            if sign in term:
                key, value = term.split(sign, 1)
                return (labels.get(key) == value) == (sign != "!=")
        return term in labels

    @staticmethod
    def field(term, fields):
        for sign in ("!=", "==", "="):
            if sign in term:
                key, value = term.split(sign, 1)
                return (fields.get(key) == value) == (sign != "!=")
        return False

    def unsupported(self, server):
        for term in self.fields:
            key = term.split("!=")[0].split("=")[0]
            if key not in ("metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"):
                return key
            if key.startswith("spec.") and not server.field_selectors:
                return key
        return None


class Fault:
    """What is done to the next requests, instead of or on the way to answering them.

    how: "status" (code, retry_after, reason, message), "close" (no answer), "cut" (after bytes of
    the answer), "stall" (silence after bytes), "trickle" (bytes at a time, delay seconds between),
    "garbage" (no JSON), "raw" (the bytes of hex, and the end). resource, watch (true, false) and answered (a type) choose the requests,
    times how many.
    """

    def __init__(self, command):
        self.command = command
        self.times = command.get("times", 1)

    def takes(self, resource, watch, answered):
        want = self.command
        if not self.times or want.get("resource", resource) != resource:
            return False
        if want.get("watch", watch) != watch or want.get("answered", answered) != answered:
            return False
        self.times -= 1
        return True


# What comes before a watch breaks off, or instead of an event.
BROKEN = {
    ("mid-object", JSON): b'{"type":"MODIFIED","object":{"kind":"Service","metadata":{"na',
    ("mid-chunk", JSON): b'{"type":"ADDED","object":{"kind":"Ser',
    ("garbage", JSON): b'{"type":"ADDED","object":{]]}\n',
    ("mid-object", PROTOBUF): b"\0\0\1\x88\x0a\x08MODIFIED\x12\xfb\2\x0a\xf8\2k8s\0\x0a\x0d\x0a\2v1\x12\7Ser",
    ("mid-chunk", PROTOBUF): b"\0\0\2\x11\x0a\5ADDED\x12\x87\4",
    ("garbage", PROTOBUF): b"\0\0\0\x10\x0a\5ADDED\x12\x7f\x0a\5k8s\0!",
}


class Cut(Exception):
    pass


class Output:
    """The way to the client, which a fault may bend."""

    def __init__(self, reader, writer, fault, keep, encoding=JSON):
        self.encoding = encoding
        self.reader = reader
        self.writer = writer
        self.fault = fault
        self.keep = keep
        self.sent = 0

    async def write(self, data):
        how = self.fault.command["how"] if self.fault else None
        if how in ("cut", "stall"):
            left = self.fault.command.get("after", 0) - self.sent
            if len(data) >= left:
                self.writer.write(data[:max(left, 0)])
                await self.drain()
                if how == "cut":
                    raise Cut()
                await asyncio.sleep(3600)
        if how == "trickle":
            step = self.fault.command.get("bytes", 7)
            for at in range(0, len(data), step):
                self.writer.write(data[at:at + step])
                await self.drain()
                await asyncio.sleep(self.fault.command.get("delay", 0.001))
        else:
            self.writer.write(data)
            await self.drain()
        self.sent += len(data)

    async def drain(self):
        await self.writer.drain()


class Watch:
    def __init__(self, resource, selector, output):
        self.resource = resource
        self.selector = selector
        self.output = output
        self.queue = deque()
        self.ready = asyncio.Event()

    def push(self, data):
        self.queue.append(data)
        self.ready.set()


class Server:
    def __init__(self, options):
        self.options = options
        self.watches = set()
        self.writers = set()
        self.quit = asyncio.Event()
        self.endpoints = 2
        self.reset()

    def reset(self):
        """As after a start."""
        options = self.options
        for watch in self.watches:
            watch.push(("abort", 0))
        self.token = options.token
        self.watchlist = not options.no_watchlist
        self.protobuf = not options.no_protobuf
        self.parameters = False
        self.field_selectors = not options.no_field_selectors
        self.page_cached = options.page_cached
        self.expire_pages = 0
        self.missing = set(options.without)
        self.forbidden = set()
        self.delay = {}
        self.duplicate = False
        self.rv = options.rv
        self.pushed_ns = 0  # CLOCK_MONOTONIC of the last change
        self.compacted = 0
        self.items = {name: {} for name in RESOURCES}
        self.history = {name: deque(maxlen=HISTORY) for name in RESOURCES}
        self.snapshots = {}
        self.cache = {}
        self.watches.clear()
        self.faults = []
        self.requests = deque(maxlen=20000)
        self.events = []

    # Objects

    def put(self, obj):
        resource = KINDS[obj["kind"]]
        self.rv += 1
        if "creationTimestamp" not in obj["metadata"]:
            obj["metadata"]["creationTimestamp"] = "2026-11-23T07:20:20Z"
        item = Item(resource, obj, self.rv)
        before = self.items[resource].get(item.key)
        self.items[resource][item.key] = item
        self.record(resource, before, item)

    def delete(self, kind, namespace, name):
        resource = KINDS[kind]
        before = self.items[resource].pop((namespace, name), None)
        if not before:
            return False
        self.rv += 1
        gone = Item(resource, before.source, self.rv)
        self.record(resource, gone, None)
        return True

    def record(self, resource, before, after):
        self.history[resource].append((self.rv, before, after))
        for key in [k for k in self.cache if k[0] == resource]:
            del self.cache[key]
        self.pushed_ns = time.monotonic_ns()
        for watch in self.watches:
            if watch.resource == resource:
                data = self.event_for(watch.selector, before, after, watch.output.encoding)
                if data:
                    watch.push(data)

    def event_for(self, selector, before, after, encoding):
        had = before is not None and selector.matches(before)
        has = after is not None and selector.matches(after)
        if has:
            data = chunk(after.event("MODIFIED" if had else "ADDED", encoding))
        elif had:
            # What stops matching is deleted with the state it had, and the version of the change.
            last = before if after is None else Item(KINDS[before.source["kind"]], before.source,
                                                     after.rv)
            data = chunk(last.event("DELETED", encoding))
        else:
            return None
        return data + data if self.duplicate else data

    def bookmark(self, resource, encoding, annotations=None):
        version, kind, _, _ = RESOURCES[resource]
        meta = {"resourceVersion": str(self.rv)}
        if annotations:
            meta["annotations"] = annotations
        return encoded_event("BOOKMARK", {"kind": kind, "apiVersion": version, "metadata": meta, **EMPTY[resource]},
                             encoding)

    def matching(self, resource, selector):
        items = self.items[resource]
        return [items[key] for key in sorted(items) if selector.matches(items[key])]

    def initial_events(self, resource, selector, encoding, bookmark):
        """What is there already, written in one go."""
        key = (resource, "events", selector.text, encoding)
        if key not in self.cache:
            events = b"".join(i.event("ADDED", encoding) for i in self.matching(resource, selector))
            full = len(events) // PIECE * PIECE
            self.cache[key] = (chunks(events[:full], PIECE), events[full:])
        data, rest = self.cache[key]
        if bookmark:
            rest += self.bookmark(resource, encoding, {"k8s.io/initial-events-end": "true"})
        return data + chunks(rest, PIECE)

    # Requests

    def encoding(self, headers):
        """The first of the types accepted that we have; None if there is none."""
        for accepted in headers.get("accept", "*/*").split(","):
            name, *parameters = (part.strip() for part in accepted.split(";"))
            if parameters and not self.parameters:
                continue
            if name == PROTOBUF and self.protobuf:
                return PROTOBUF
            if name in (JSON, "application/*", "*/*"):
                return JSON
        return None

    async def client(self, reader, writer):
        self.writers.add(writer)
        try:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            writer.transport.set_write_buffer_limits(high=4 << 20)
            while await self.request(reader, writer):
                pass
        except Cut:
            self.abort(writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, OSError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    @staticmethod
    def abort(writer):
        sock = writer.get_extra_info("socket")  # None once it is closed
        try:
            if sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        writer.transport.abort()

    async def request(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            if ":" in line:
                name, value = line.split(":", 1)
                headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        keep = headers.get("connection", "").lower() != "close"
        if url.path.startswith("/_control"):
            await self.control_http(writer, method, url.path, body)
            return keep
        encoding = self.encoding(headers)
        self.requests.append({"method": method, "path": url.path, "query": query, "time": time.time(),
                              "user_agent": headers.get("user-agent"),
                              "accept": headers.get("accept"), "answered": encoding,
                              "accept_encoding": headers.get("accept-encoding"),
                              "host": headers.get("host"),
                              "authorized": self.authorized(headers)})
        resource = PATHS.get(url.path)
        watch = query.get("watch") in ("true", "1")
        fault = next((f for f in self.faults if f.takes(resource, watch, encoding)), None)
        out = Output(reader, writer, fault, keep, encoding or JSON)
        how = fault.command["how"] if fault else None
        if how == "close":
            raise Cut()
        if how == "status":
            want = fault.command
            code = want["code"]
            await self.refuse(out, code, want.get("reason", REASONS.get(code, "Unknown")),
                              want.get("message", "injected"), retry_after=want.get("retry_after"),
                              causes=want.get("causes"))
            return keep
        if how == "garbage":
            await self.answer(out, 200, b"<html>this is no API server</html>", "text/html")
            return keep
        if how == "raw":
            await out.write(bytes.fromhex(fault.command["hex"]))
            raise Cut()
        if resource and not self.authorized(headers) and "authorization" not in headers:
            await self.forbid(out, resource, query, "system:anonymous")
        elif not self.authorized(headers):
            await self.refuse(out, 401, "Unauthorized", "Unauthorized")
        elif method == "POST" and url.path.endswith("/events"):
            kind = headers.get("content-type", "application/json")
            if "json" in kind:  # others are taken, as a true server does, and not looked at
                self.events.append(json.loads(body))
            await self.answer(out, 201, body, kind)
        elif method == "POST" and url.path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            await self.answer(out, 201, json.dumps({
                "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
                "status": {"userInfo": {"username": "system:serviceaccount:kube-system:vipmap",
                                        "groups": ["system:authenticated"]}}}).encode())
        elif url.path == "/readyz":
            await self.answer(out, 200, b"ok", "text/plain")
        elif self.written(method, url.path):
            await self.write(out, method, url.path, body)
        elif resource is None or resource in self.missing:
            await self.refuse(out, 404, "NotFound",
                              "the server could not find the requested resource", details={})
        elif resource in self.forbidden or (watch and "watch " + resource in self.forbidden):
            await self.forbid(out, resource, query, "proxy")
        elif encoding is None:
            await self.refuse(out, 406, "NotAcceptable", "only JSON and protobuf are available here")
        elif method != "GET":
            await self.refuse(out, 405, "MethodNotAllowed", "not here")
        else:
            await self.get(out, resource, query, watch, headers)
        return keep

    def authorized(self, headers):
        tokens = [self.token] if isinstance(self.token, str) else self.token
        return not tokens or headers.get("authorization") in ["Bearer " + t for t in tokens]

    async def get(self, out, resource, query, watch, headers):
        selector = Selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        bad = selector.unsupported(self)
        if bad:
            await self.refuse(out, 400, "BadRequest",
                              'Unable to find "%s" that match label selector "%s", field selector '
                              '"%s": field label not supported: %s' %
                              (resource, *selector.text, bad))
        elif watch:
            await self.watch(out, resource, selector, query)
        else:
            await self.list(out, resource, selector, query, headers)

    @staticmethod
    def written(method, path):
        """Whether this is about single objects, which node proxies do not ask for."""
        return method in ("POST", "PUT", "DELETE") or "/namespaces/" in path

    async def write(self, out, method, path, body):
        """POST to a collection; GET, PUT and DELETE of an object. No validation, no conflicts of versions."""
        parts = path.strip("/").split("/")
        group = parts[:2] if parts[0] == "api" else parts[:3]
        parts = parts[len(group):]
        namespace = parts[1] if parts[0] == "namespaces" else ""
        parts = parts[2 if namespace else 0:]
        resource = PATHS.get("/" + "/".join(group + parts[:1]))
        if not resource:
            await self.refuse(out, 404, "NotFound", "the server could not find the requested resource")
            return
        obj = json.loads(body) if body else None
        key = (namespace, parts[1] if len(parts) > 1 else obj["metadata"]["name"])
        there = self.items[resource].get(key)
        if method == "POST" and there:
            await self.refuse(out, 409, "AlreadyExists", "there is one")
        elif method != "POST" and not there:
            await self.refuse(out, 404, "NotFound", "there is none")
        elif method == "DELETE":
            self.delete(RESOURCES[resource][1], *key)
            await self.answer(out, 200, dump({"kind": "Status", "status": "Success"}))
        else:
            if method != "GET":
                obj["kind"] = RESOURCES[resource][1]
                self.put(obj)
            await self.answer(out, 201 if method == "POST" else 200, dump(self.items[resource][key].source))

    @staticmethod
    def head(code, length=None, content="application/json", extra=(), keep=True):
        lines = ["HTTP/1.1 %d %s" % (code, PHRASES.get(code, "Unknown")),
                 "Audit-Id: %s" % uuid.uuid4(), "Cache-Control: no-cache, private",
                 "Content-Type: " + content, *extra,
                 "X-Kubernetes-Pf-Flowschema-Uid: cc62a806-c60e-472e-ab72-987bf6711a31",
                 "X-Kubernetes-Pf-Prioritylevel-Uid: 06041215-ebf0-4959-acad-f1a0e19a5936",
                 "Date: " + time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())]
        if length is None:
            lines.append("Transfer-Encoding: chunked")
        else:
            lines.append("Content-Length: %d" % length)
        if not keep:
            lines.append("Connection: close")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def answer(self, out, code, body, content="application/json", extra=()):
        await out.write(self.head(code, len(body), content, extra, out.keep) + body)

    async def refuse(self, out, code, reason, message, retry_after=None, causes=None, details=None,
                     metadata=None, extra=()):
        extra = list(extra)
        more = {}
        if retry_after is not None:
            extra.append("Retry-After: %s" % retry_after)
            more["details"] = {"retryAfterSeconds": retry_after}
        if causes:
            more.setdefault("details", {})["causes"] = causes
        if details is not None:
            more["details"] = details
        encoding = JSON if code == 406 else out.encoding
        body = encoded(status_body(code, reason, message, metadata=metadata or {}, **more), encoding)
        await self.answer(out, code, body, encoding, extra=extra)

    def too_large(self, rv):
        return {"reason": "Timeout", "message": "Timeout: Too large resource version: %d, current: %d" % (rv, self.rv),
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}

    async def invalid(self, out, field, message):
        message = "Forbidden: " + message
        causes = [{"reason": "FieldValueForbidden", "message": message, "field": field}]
        await self.refuse(out, 422, "Invalid", 'ListOptions.meta.k8s.io "" is invalid: %s: %s' % (field, message),
                          details={"group": "meta.k8s.io", "kind": "ListOptions", "causes": causes})

    async def forbid(self, out, resource, query, user):
        """No rule of RBAC allows it."""
        group = RESOURCES[resource][0].rpartition("/")[0]
        verb = "watch" if query.get("watch") in ("true", "1") else "list"
        await self.refuse(out, 403, "Forbidden", '%s is forbidden: User "%s" cannot %s resource "%s" in API group '
                          '"%s" at the cluster scope' % (".".join(filter(None, (resource, group))), user, verb,
                                                         resource, group),
                          details={**({"group": group} if group else {}), "kind": resource},
                          extra=["X-Content-Type-Options: nosniff"])

    # Lists

    async def list(self, out, resource, selector, query, headers):
        rv = query.get("resourceVersion", "")
        limit = int(query.get("limit", 0))
        if rv not in ("", "0") and int(rv) > self.rv:
            await self.refuse(out, 504, retry_after=1, **self.too_large(int(rv)))
            return
        if rv == "0" and not self.page_cached:
            limit = 0  # the watch cache gives all
        if "continue" in query:
            page = await self.resume(out, resource, query["continue"])
            if page is None:
                return
            rv, items = page
        else:
            rv, items = self.rv, self.matching(resource, selector)
        meta = {"resourceVersion": str(rv)}
        if limit and len(items) > limit:
            start = items[limit].key
            token = base64.urlsafe_b64encode(dump(
                {"v": "meta.k8s.io/v1", "rv": rv, "start": "/".join(start), "id": len(self.snapshots),
                 })).decode().rstrip("=")
            self.snapshots[token] = (rv, items[limit:])
            meta["continue"] = token
            meta["remainingItemCount"] = len(items) - limit
            items = items[:limit]
        await self.send_list(out, resource, selector, meta, items, headers)

    async def resume(self, out, resource, token):
        page = self.snapshots.get(token)
        if page and self.expire_pages:
            self.expire_pages -= 1
        elif page:
            return page
        await self.refuse(out, 410, "Expired", "The provided continue parameter is too old to display"
                          " a consistent list result. You can start a new list without the continue "
                          "parameter.", metadata={"continue": token})
        return None

    async def send_list(self, out, resource, selector, meta, items, headers):
        version, kind, _, _ = RESOURCES[resource]
        compress = "gzip" in headers.get("accept-encoding", "") and not self.options.no_gzip
        whole = "continue" not in meta
        key = (resource, "list", selector.text, compress, out.encoding)
        body = self.cache.get(key) if whole and len(items) > 1000 else None
        if body is None:
            if out.encoding == PROTOBUF:
                body = protobuf.listed(version, kind + "List", meta, (i.message() for i in items))
            else:
                head = dump({"kind": kind + "List", "apiVersion": version, "metadata": meta})[:-1]
                body = head + b',"items":[' + b",".join(i.body for i in items) + b"]}\n"
            compress = compress and len(body) > GZIP_FROM
            if compress:
                body = gzip.compress(body, 1)
            if whole:
                self.cache[key] = body
        zipped = body[:2] == b"\x1f\x8b"
        extra = ["Content-Encoding: gzip", "Vary: Accept-Encoding"] if zipped else []
        if len(body) <= 2048:
            await self.answer(out, 200, body, out.encoding, extra=extra)
            return
        await out.write(self.head(200, None, out.encoding, extra, out.keep))
        step = PIECE if len(body) < 1 << 20 else 1 << 16
        for at in range(0, len(body), step):
            await out.write(chunk(body[at:at + step]))
        await out.write(b"0\r\n\r\n")

    # Watches

    async def watch(self, out, resource, selector, query):
        streaming = query.get("sendInitialEvents") == "true"
        if streaming and not self.watchlist:
            await self.invalid(out, "sendInitialEvents", "sendInitialEvents is forbidden for "
                               "watch unless the WatchList feature gate is enabled")
            return
        if streaming and query.get("resourceVersionMatch") != "NotOlderThan":
            await self.invalid(out, "resourceVersionMatch", "sendInitialEvents requires setting "
                               "resourceVersionMatch to NotOlderThan")
            return
        rv = query.get("resourceVersion", "")
        since = int(rv) if rv else 0
        watch = Watch(resource, selector, out)
        ahead = since > self.rv
        content = PROTOBUF + ";stream=watch" if out.encoding == PROTOBUF else JSON
        await out.write(self.head(200, None, content, keep=out.keep))
        if streaming and ahead:  # the real one waits for three seconds before it says so
            error = self.too_large(since)
            causes = {"causes": error.pop("causes"), "retryAfterSeconds": 1}
            await self.fail_watch(out, status_body(504, **error, details=causes))
            return
        if not streaming and since and since < self.compacted:
            await self.fail_watch(out, status_body(410, "Expired", "too old resource version: %d (%d)" %
                                                   (since, self.rv)))
            return
        # From here to the registration nothing may await: events must neither be lost nor doubled.
        if streaming or since == 0:
            marks = query.get("allowWatchBookmarks") == "true"
            watch.push(self.initial_events(resource, selector, out.encoding, streaming and marks))
        else:
            for at, before, after in self.history[resource]:
                if at > since:
                    data = self.event_for(selector, before, after, out.encoding)
                    if data:
                        watch.push(data)
        if ahead:
            # As on a server whose history ends before ours: nothing comes, not even bookmarks.
            query = {**query, "allowWatchBookmarks": "false"}
        else:
            self.watches.add(watch)
        # A client says nothing while it watches: what can be read is that it has gone.
        eof = asyncio.create_task(out.reader.read(1))
        eof.add_done_callback(lambda task: task.cancelled() or watch.push(("abort", 0)))
        try:
            await self.stream(watch, query)
        finally:
            self.watches.discard(watch)
            eof.cancel()
            await asyncio.gather(eof, return_exceptions=True)

    @staticmethod
    async def fail_watch(out, status):
        await out.write(chunk(encoded_event("ERROR", status, out.encoding)) + b"0\r\n\r\n")

    async def stream(self, watch, query):
        end = time.monotonic() + float(query.get("timeoutSeconds", 3600)) * self.options.time_scale
        marks = query.get("allowWatchBookmarks") == "true"
        mark = time.monotonic() + self.options.bookmark_s
        while True:
            while watch.queue:
                if self.delay.get(watch.resource):
                    await asyncio.sleep(self.delay[watch.resource])
                if not await self.send_event(watch, watch.queue.popleft()):
                    return
            now = time.monotonic()
            if now >= end or self.quit.is_set():
                break
            if marks and now >= mark:
                mark = now + self.options.bookmark_s
                await watch.output.write(chunk(self.bookmark(watch.resource, watch.output.encoding)))
                continue
            watch.ready.clear()
            try:
                await asyncio.wait_for(watch.ready.wait(), min(end, mark) - now)
            except asyncio.TimeoutError:
                pass
        if marks and watch in self.watches:
            await watch.output.write(chunk(self.bookmark(watch.resource, watch.output.encoding)))
        await watch.output.write(b"0\r\n\r\n")

    async def send_event(self, watch, data):
        """Whether the watch goes on."""
        if isinstance(data, bytes):
            if data:
                await watch.output.write(data)
            return True
        how, code = data
        out = watch.output
        if how == "end":
            await out.write(b"0\r\n\r\n")
            return False
        if how in ("mid-object", "mid-chunk", "garbage"):
            broken = BROKEN[how, out.encoding]
            await out.write(b"400\r\n" + broken if how == "mid-chunk" else chunk(broken))
        elif how == "stall":
            await asyncio.sleep(3600)
        elif how == "error":
            await self.fail_watch(out, status_body(code, REASONS.get(code, "Unknown"), "injected"))
            return False
        raise Cut()

    # Control

    async def control_http(self, writer, method, path, body):
        name = path[len("/_control"):].strip("/")
        try:
            commands = json.loads(body) if method == "POST" else {"op": name}
            single = isinstance(commands, dict)
            answers = [self.control(c) for c in ([commands] if single else commands)]
            code, answer = 200, answers[0] if single else answers
        except Exception as e:  # a bad command is the caller's to see
            code, answer = 400, {"error": repr(e)}
        data = dump(answer) + b"\n"
        writer.write(self.head(code, len(data)) + data)
        await writer.drain()

    def control(self, c):
        op = c["op"]
        if op == "put":
            for obj in c.get("objects") or [c["object"]]:
                self.put(obj)
        elif op == "delete":
            return {"ok": self.delete(c["kind"], c.get("namespace", ""), c["name"]), "rv": self.rv}
        elif op == "touch_endpoint":
            self.touch_endpoint(c["n"])
            return {"ok": True, "rv": self.rv, "at": self.pushed_ns}
        elif op == "load":
            self.load = asyncio.create_task(self.touch_many(c["rate"], c["count"]))
        elif op in ("touch_service", "hide_service"):
            self.touch_service(c["n"], op == "hide_service")
        elif op == "remove_service":
            self.delete("Service", "ns-%d" % (c["n"] % 100), "service-%05d" % c["n"])
        elif op == "remove_slice":
            self.delete("EndpointSlice", "ns-%d" % (c["n"] % 100), "service-%05d-abcde" % c["n"])
        elif op == "reset":
            self.reset()
        elif op == "bookmark":
            for watch in self.watches:
                watch.push(chunk(self.bookmark(watch.resource, watch.output.encoding)))
        elif op == "compact":
            self.compacted = self.rv + 1
            for history in self.history.values():
                history.clear()
            self.rv += 1
        elif op == "expire_continue":
            self.snapshots.clear()
        elif op == "break":
            return {"broken": self.break_watches(c)}
        elif op == "fault":
            self.faults.append(Fault(c))
        elif op == "clear_faults":
            self.faults.clear()
        elif op == "set":
            for name in ("token", "delay", "watchlist", "duplicate", "field_selectors", "rv",
                         "page_cached", "expire_pages", "missing", "forbidden", "protobuf", "parameters"):
                if name in c:
                    setattr(self, name, c[name])
        elif op == "drop":
            for writer in list(self.writers):
                self.abort(writer)
        elif op == "requests":
            return list(self.requests)
        elif op == "clear_requests":
            self.requests.clear()
        elif op == "objects":
            return {"apiVersion": "v1", "kind": "List",
                    "items": [i.source for r in self.items.values() for _, i in sorted(r.items())]}
        elif op == "events":
            return self.events
        elif op == "state":
            return {"rv": self.rv, "watches": sorted(w.resource for w in self.watches),
                    "objects": {n: len(i) for n, i in self.items.items()},
                    "faults_left": sum(f.times for f in self.faults)}
        elif op == "quit":
            self.quit.set()
        else:
            raise ValueError("no such op: " + op)
        return {"ok": True, "rv": self.rv}

    def break_watches(self, c):
        n = 0
        for watch in list(self.watches):
            if c.get("resource", watch.resource) != watch.resource:
                continue
            n += 1
            # What stalls or breaks no longer gets events; they are for the watch that follows.
            self.watches.discard(watch)
            watch.push((c["how"], c.get("code", 410)))
        return n

    # Many objects

    def generate(self, services, endpoints):
        self.endpoints = endpoints
        self.put({"kind": "Node", "metadata": {"name": self.options.node, "labels":
                                               {"topology.kubernetes.io/zone": "zone-1"}},
                  "spec": {"podCIDRs": ["10.180.0.0/16"]},
                  "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
        self.put({"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
                  "spec": {"cidrs": ["172.30.0.0/16"]}})
        for n in range(services):
            self.put(self.service(n))
        for n in range(services):
            self.put(self.slice(n))

    @staticmethod
    def service(n):
        ip = "172.30.%d.%d" % (n // 250 % 256, n % 250 + 1)
        if n >= 64000:
            ip = "172.%d.%d.%d" % (31 + n // 64000, n // 250 % 256, n % 250 + 1)
        name = "service-%05d" % n
        return {"kind": "Service", "metadata": {
                    "name": name, "namespace": "ns-%d" % (n % 100),
                    "uid": "00000000-0000-4000-8000-%012d" % n, "labels": {"app": name},
                    "managedFields": [managed("helm", "v1", {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {
                            ".": {}, 'k:{"port":80,"protocol":"TCP"}': {
                                ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}},
                            "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}})]},
                "spec": {"ports": [{"name": "http", "protocol": "TCP", "port": 80,
                                    "targetPort": 8080}],
                         "selector": {"app": name}, "clusterIP": ip,
                         "clusterIPs": [ip], "type": "ClusterIP", "sessionAffinity": "None",
                         "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
                         "internalTrafficPolicy": "Cluster"},
                "status": {"loadBalancer": {}}}

    def slice(self, n, shift=0):
        def endpoint(i):
            at = n * self.endpoints + i
            if i == 0 and shift:
                address = "10.200.%d.%d" % (shift // 250 % 256, shift % 250 + 1)
            else:
                address = "10.%d.%d.%d" % (100 + at // 62500, at // 250 % 250, at % 250 + 1)
            return {"addresses": [address],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "targetRef": {"kind": "Pod", "namespace": "ns-%d" % (n % 100),
                                  "name": "service-%05d-%d" % (n, i),
                                  "uid": "00000000-0000-4000-8001-%012d" % at},
                    "nodeName": "node-%d" % (at % 100), "zone": "zone-%d" % (at % 3)}
        owner = "00000000-0000-4000-8000-%012d" % n
        return {"kind": "EndpointSlice", "metadata": {
                    "name": "service-%05d-abcde" % n, "generateName": "service-%05d-" % n,
                    "namespace": "ns-%d" % (n % 100),
                    "uid": "00000000-0000-4000-8002-%012d" % n, "generation": 1,
                    "labels": {"endpointslice.kubernetes.io/managed-by":
                               "endpointslice-controller.k8s.io",
                               "kubernetes.io/service-name": "service-%05d" % n},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service",
                                         "name": "service-%05d" % n, "uid": owner,
                                         "controller": True, "blockOwnerDeletion": True}],
                    "managedFields": [managed("kube-controller-manager", "discovery.k8s.io/v1", {
                        "f:addressType": {}, "f:endpoints": {}, "f:metadata": {
                            "f:generateName": {}, "f:labels": {
                                ".": {}, "f:endpointslice.kubernetes.io/managed-by": {},
                                "f:kubernetes.io/service-name": {}},
                            "f:ownerReferences": {".": {}, 'k:{"uid":"%s"}' % owner: {}}}, "f:ports": {}})]},
                "addressType": "IPv4",
                "endpoints": [endpoint(i) for i in range(self.endpoints)],
                "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]}

    def touch_service(self, n, hide):
        obj = self.service(n)
        obj["spec"]["ports"][0]["port"] = self.rv % 60000 + 1
        if hide:
            obj["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
        self.put(obj)

    def touch_endpoint(self, n):
        self.put(self.slice(n, shift=self.rv % 60000 + 1))

    async def touch_many(self, rate, count):
        begin, slices = time.monotonic(), max(len(self.items["endpointslices"]), 1)
        for i in range(count):
            await asyncio.sleep(max(begin + i / rate - time.monotonic(), 0))
            self.touch_endpoint(i * 7919 % slices)


def managed(manager, version, fields):
    """Who wrote which fields: of a real server's objects the larger part of the metadata."""
    return {"manager": manager, "operation": "Update", "apiVersion": version, "time": "2026-11-23T07:20:57Z",
            "fieldsType": "FieldsV1", "fieldsV1": fields}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--address", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--token", action="append", help="a bearer token to ask for")
    p.add_argument("--load", action="append", default=[], help="JSON object or List")
    p.add_argument("--rv", type=int, default=FIRST_RV,
                   help="the first resourceVersion, as after a restart")
    p.add_argument("--generate", help="SERVICESxENDPOINTS")
    p.add_argument("--node", default="node-a", help="name of the generated Node")
    p.add_argument("--cert")
    p.add_argument("--key")
    p.add_argument("--client-ca", help="ask for a client certificate")
    p.add_argument("--bookmark-s", type=float, default=60)
    p.add_argument("--time-scale", type=float, default=1, help="of timeoutSeconds")
    p.add_argument("--no-watchlist", action="store_true", help="refuse streaming lists")
    p.add_argument("--no-field-selectors", action="store_true", help="of services, as before 1.32")
    p.add_argument("--page-cached", action="store_true", help="limit counts with resourceVersion=0")
    p.add_argument("--without", action="append", default=[], help="a resource that is not there")
    p.add_argument("--no-protobuf", action="store_true", help="JSON whatever is accepted")
    p.add_argument("--no-gzip", action="store_true")
    p.add_argument("--no-stdin", action="store_true", help="run until killed")
    return p.parse_args()


async def read_commands(server):
    reader = asyncio.StreamReader(limit=1 << 26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while not server.quit.is_set():
        line = await reader.readline()
        if not line:
            break
        try:
            answer = server.control(json.loads(line))
        except Exception as e:  # a bad command is the caller's to see
            answer = {"error": repr(e)}
        sys.stdout.buffer.write(dump(answer) + b"\n")
        sys.stdout.buffer.flush()
    server.quit.set()


async def main():
    options = arguments()
    server = Server(options)
    for path in options.load:
        with open(path, encoding="utf-8") as f:
            top = json.load(f)
        for obj in top["items"] if "items" in top else [top]:
            server.put(obj)
    if options.rv != FIRST_RV:
        server.compacted = server.rv + 1  # what was before is not known here
    if options.generate:
        services, endpoints = options.generate.split("x")
        server.generate(int(services), int(endpoints))
    tls = None
    if options.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.cert, options.key)
        if options.client_ca:
            tls.load_verify_locations(options.client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
    listener = await asyncio.start_server(server.client, options.address, options.port, ssl=tls,
                                          limit=1 << 20, backlog=1000)
    print("port %d" % listener.sockets[0].getsockname()[1], flush=True)
    tasks = [] if options.no_stdin else [asyncio.create_task(read_commands(server))]
    await server.quit.wait()
    for task in tasks:
        task.cancel()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    # clients that are gone while they are written to are what this server is for
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
