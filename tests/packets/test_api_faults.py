"""Packets flow while the API server breaks its answers and refuses, and what changes meanwhile is in force soon."""
import time

from lib.apiserver import api
from lib.case import *
from lib.traffic import Traffic, wrong


def web(endpoints):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], nodeport=30080)


def old():
    return both("old", 12, ["pod1"])


# what is done to running watches and to the requests that follow, while an endpoint changes
FAULTS = [
    ("410 as an event", "API-8", [{"op": "break", "how": "error", "code": 410}]),
    ("410 as an answer", "API-8", [{"op": "fault", "how": "status", "code": 410, "times": 3, "watch": True},
                                   {"op": "break", "how": "abort"}]),
    ("410 Gone as an answer", "API-8", [{"op": "fault", "how": "status", "code": 410, "reason": "Gone", "times": 3},
                                        {"op": "break", "how": "end"}]),
    ("410 after a compaction", "API-8", [{"op": "compact"}, {"op": "break", "how": "abort"}]),
    ("410, and lists in pages", "API-8", [{"op": "set", "watchlist": False}, {"op": "compact"},
                                          {"op": "break", "how": "end"}]),
    ("500 as an event", "API-8", [{"op": "break", "how": "error", "code": 500}]),
    ("a cut in an object", "API-8", [{"op": "break", "how": "mid-object"}]),
    ("a cut in a chunk", "API-8", [{"op": "break", "how": "mid-chunk"}]),
    ("nonsense", "API-8", [{"op": "break", "how": "garbage"}]),
    ("all connections reset", "API-8", [{"op": "drop"}]),
    ("a list cut in an object", "API-8", [{"op": "fault", "how": "cut", "after": 700, "times": 4},
                                          {"op": "break", "how": "error", "code": 410}]),
    ("429 with Retry-After", "API-8", [{"op": "fault", "how": "status", "code": 429, "retry_after": 1, "times": 4},
                                       {"op": "break", "how": "abort"}]),
    ("503 with Retry-After", "API-8", [{"op": "fault", "how": "status", "code": 503, "retry_after": 1, "times": 4},
                                       {"op": "break", "how": "abort"}]),
    ("503 for lists", "API-8", [{"op": "fault", "how": "status", "code": 503, "times": 6},
                                {"op": "break", "how": "error", "code": 410}]),
    ("406 for protobuf", "API-8", [{"op": "fault", "how": "status", "code": 406, "times": 4,
                                    "answered": "application/vnd.kubernetes.protobuf"},
                                   {"op": "break", "how": "abort"}]),
    ("415 for protobuf, and lists", "API-8", [{"op": "fault", "how": "status", "code": 415, "times": 4,
                                               "answered": "application/vnd.kubernetes.protobuf"},
                                              {"op": "break", "how": "error", "code": 410}]),
    ("a server that has no protobuf any more", "API-8", [{"op": "set", "protobuf": False},
                                                         {"op": "break", "how": "error", "code": 410}]),
    ("no answer", "API-8", [{"op": "fault", "how": "close", "times": 6}, {"op": "drop"}]),
    ("no API server at that address", "API-8", [{"op": "fault", "how": "garbage", "times": 3}, {"op": "drop"}]),
    ("a slow list", "API-8", [{"op": "fault", "how": "trickle", "bytes": 50, "delay": 0.005, "times": 4},
                              {"op": "break", "how": "error", "code": 410}]),
    ("all events twice", "API-8", [{"op": "set", "duplicate": True}]),
    ("EndpointSlices long before their Services", "EPS-11", [{"op": "set", "delay": {"services": 0.4}}]),
    ("Services long before their EndpointSlices", "EPS-11", [{"op": "set", "delay": {"endpointslices": 0.4}}]),
]

JSON = ["--kube-api-content-type", "application/json"]
IN_JSON_TOO = ("410 as an event", "410, and lists in pages", "a cut in an object", "a cut in a chunk", "nonsense",
               "a list cut in an object", "all events twice")


def fault_case(name, ids, commands, *arguments):
    @case("packets flow through " + name, ids + " RUN-2")
    def run(b):
        with api(b) as server:
            b.start(web(["r4", "pod1"]) + old(), *DETECT, *arguments)
            running = [Traffic(b, "client", vip, f, 2) for vip, f in (("svc11:80", 4), ("lb11:80", 6))]
            time.sleep(0.3)
            # changes before, in the middle of and after it
            server.put(*web(["r4", "r2"]))
            for c in commands:
                server.tell(**c)
            server.put(*web(["r4", "pod1", "r1"]))
            server.remove(*old())
            b.program.revision += 1
            b.program.write(base() + web(["r4", "r1"]) + b.program.marker())
            b.program.wait(20)
            b.expect_both("svc11:80", "r4", "r1")
            for f in both_families:
                b.eventually("client", "svc12:80", f, "tcp", DROPPED, 10)
            for f, t in zip(both_families, running):
                b.equal("answers that should not be", {}, wrong(t.tally(), f, ["r4", "r1", "r2", "pod1"]))
            server.tell("clear_faults")
            b.apply(web(["r5"]))
            b.expect_both("svc11:80", "r5")


for row in FAULTS:
    fault_case(*row)
    if row[0] in IN_JSON_TOO:
        fault_case(row[0] + ", JSON", *row[1:], *JSON)


for word, arguments in (("protobuf", []), ("JSON", JSON)):
    @case("a NUL that somebody wrote into an annotation, " + word, "API-10 SVC-8")
    def nul(b, arguments=arguments):
        def lists():
            return [r["path"] for r in server.requests() if "sendInitialEvents" in r["query"]]

        with api(b) as server:
            b.start(web(["pod1"]) + old(), *DETECT, *arguments)
            before = lists()
            for n in range(5):
                server.put(*[changed(o, "metadata", "annotations", value={"note": "a\0b%d" % n}) for o in web(["r4"])])
            b.apply([changed(o, "metadata", "annotations", value={"note": "\0"}) for o in web(["r5"])] + old())
            b.expect_both("svc11:80", "r5")
            b.expect_both("svc12:80", "pod1")
            b.equal("lists", before, lists())
            b.true("the log", "cannot be read" not in b.program.log, "all was read: " + b.program.log[-500:])
            # and from the beginning
            b.start([changed(o, "metadata", "annotations", value={"note": "\0"}) for o in web(["r5"])] + old(), *DETECT,
                    *arguments)
            b.expect_both("svc11:80", "r5")


@case("a page of the list expires before it is read", "API-8")
def expired_page(b):
    many = [service("many%d" % n, 256 + n, protos=("TCP",), families=(4,)) for n in range(520)]
    with api(b, "--no-watchlist", "--page-cached") as server:
        server.tell("set", expire_pages=2)
        b.start(web(["r4"]) + many)
        b.expect_both("svc11:80", "r4")
        b.true("continue was asked for", any("continue" in r["query"] for r in server.requests()))
        b.expect("client", "svc775:80", 4, "tcp", REFUSED)
