"""The program and an API server on another machine, which goes away, breaks its answers and refuses: what packets
experience meanwhile and afterwards."""
import collections
import http.client
import json
import os
import re
import signal
import socket
import struct
import time

from lib.apiserver import SERVICE_ACCOUNT, TOKEN, api, turn_link
from lib.case import *
from lib.traffic import Traffic, wrong

OTHER_TOKEN = "s3cret-t0ken-after-its-rotation"


def web(endpoints, **more):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], nodeport=30080, **more)


def old(endpoints=("pod1",)):
    return both("old", 12, endpoints)


def get(b, path, port=10256):
    """(status, body) of what the program serves to its own node."""
    with netns.inside(b.world.name["node"]):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        c.connect()
    c.request("GET", path)
    answer = c.getresponse()
    body = answer.read().decode()
    c.close()
    return answer.status, body


def metric(b, name):
    return re.search("(?m)^%s (.*)$" % name, get(b, "/metrics", 10249)[1]).group(1)


def server_health(b, path="/livez"):
    return json.loads(get(b, path)[1]).get("apiServer", {})


def listing(b):
    """Both tables with handles: whatever is written shows, even if it is the same again. But not who owns them, nor
    how long clients are remembered."""
    lines = []
    for family in ("ip", "ip6"):
        text = b.in_node("nft", "-a", "list", "table", family, "vipmap")
        text = re.sub(r"expires \w+|table .*|\tflags (owner|persist|owner,persist)?\n", "", text)
        lines += [family + line for line in text.splitlines()]
    return lines


def has_ranges(b):
    return ["elements = " in b.in_node("nft", "list", "set", family, "vipmap", "service-cidrs") for family in ("ip", "ip6")]


def same_table(b, when, before):
    now = listing(b)
    b.equal("lines of the table that are new or gone " + when, [], sorted(set(now) ^ set(before)))
    b.equal("lines of the table " + when, len(before), len(now))


def unchanged(b, when, table):
    b.equal("still running " + when, None, b.program.process.poll())
    b.expect_both("svc11:80", "pod1", "r1")
    b.expect_both("svc12:80", "pod1")
    same_table(b, when, table)


JSON = ["--kube-api-content-type", "application/json"]
# what has arrived in part, how the server and how the program is started
PARTS = [("no list of Services", "services", 0, [], []),
         ("half a list of Services", "services", 500, [], []),
         ("half a list of EndpointSlices", "endpointslices", 640, [], []),
         ("half a page of Services", "services", 500, ["--no-watchlist"], []),
         ("half a page of EndpointSlices", "endpointslices", 640, ["--no-watchlist"], []),
         ("half a list of Services, JSON", "services", 800, [], JSON),
         ("half a page of EndpointSlices, JSON", "endpointslices", 900, ["--no-watchlist"], JSON)]


def first_lists(name, resource, after, flags, arguments):
    @case("an earlier run's rules are in force with " + name, "RUN-1 API-8")
    def run(b):
        with api(b, *flags) as server:
            b.once(web(["pod1", "r1"]) + old())
            server.kill()
            table = listing(b)
            b.program.launch(*DETECT, *arguments)
            b.hears("warning: API server unreachable: .*onnect.*; rules stay as they are")
            b.hears("debug: Service: list: .*onnect")
            time.sleep(0.3)
            unchanged(b, "without an API server", table)
            b.equal("/metrics", "0", metric(b, "vipmap_api_server_last_contact_timestamp_seconds"))
            b.equal("health", (False, None), tuple(server_health(b).get(k) for k in ("connected", "lastContact")))
            b.equal("/livez", 200, get(b, "/livez")[0])
            # what it sees of the server now is only the part
            server.publish(base() + web(["r2"]))
            b.program.process.send_signal(signal.SIGSTOP)
            server.start()
            server.tell("fault", how="stall", after=after, resource=resource, times=1 if after else 9,
                        **({"watch": False} if flags and after else {}))
            b.program.process.send_signal(signal.SIGCONT)
            other = "EndpointSlice" if resource == "services" else "Service"
            b.hears(other + ": listed", 10)
            time.sleep(0.5)
            b.true("%s is not listed" % resource, not b.program.says(
                ("Service" if resource == "services" else "EndpointSlice") + ": listed"))
            unchanged(b, "with " + name, table)
            server.tell("clear_faults")
            server.tell("drop")
            for f in both_families:
                b.eventually("client", "svc11:80", f, "tcp", reach("r2"), 10)
                b.expect("client", "svc12:80", f, "tcp", DROPPED)


for row in PARTS:
    first_lists(*row)


def refusal(code, body):
    return ("HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (code, len(body))).encode() + body


# answers, and what of them stands in the log
UNPRINTABLE = [
    ("no HTTP", b"\xff\xfe\x1b[31mnonsense\x80\x9b\r\n\r\n", r"debug: Service: .*HTTP"),
    ("a reason and a message", refusal(
        503, b'{"kind":"Status","code":503,"reason":"Gone\xff\x9b","message":"a\\nb\xe2\x80\xae\xc2\x9b2J\x80"}'),
     r"warning: Service: .*503 Gone\\xff\\x9b: a\\x0ab\\xe2\\x80\\xae\\xc2\\x9b2J\\x80"),
    ("a list", refusal(200, b'{"kind":"ServiceList\xff","items":[{"\x80":\xff}]}'), r"warning: Service: .*"),
]


@case("what an API server says never steers a terminal", "API-8")
def unprintable(b):
    """Bytes that are not printable are escaped in the log, be it text or JSON, and in what commands print."""
    with api(b) as server:
        b.start(web(["pod1", "r1"]))
        for form in ("text", "json"):
            b.program.stop()
            server.tell("clear_faults")
            server.tell("fault", how="status", code=503, resource="services", times=1)
            b.program.launch(*DETECT, "--logging-format", form)
            b.hears("Service: .*503")
            for name, answer, said in UNPRINTABLE if form == "text" else UNPRINTABLE[1:2]:
                server.tell("fault", how="raw", hex=answer.hex(), resource="services", times=1)
                server.tell("break", how="error", code=410, resource="services")
                if form == "text":
                    b.hears(said, 20)
            if form == "json":
                b.hears(r"Gone\\\\xff\\\\x9b: a\\u000ab\\u202e\\u009b2J\\\\x80", 20)
            b.program.stop()
            log = b.program.log
            b.equal("characters of the log in %s that are not printable" % form, [],
                    sorted({c for c in log if c != "\n" and not c.isprintable() or c == "\ufffd"}))
            if form == "json":
                b.true("each line is an object", all("severity" in json.loads(line) for line in log.splitlines()), "so")


@case("an API server that is away for a while", "API-8 RUN-1 HZ-2 VER-15")
def away(b):
    with api(b) as server:
        b.start(web(["pod1", "r1"]) + old() + both("gone", 13, ["r3"]))
        b.until("connected", True, lambda: server_health(b)["connected"])
        b.until("ranges of ServiceCIDRs", [True, True], lambda: has_ranges(b))
        held = [b.connection("client", v, f) for v in ("svc11:80", "svc13:80", "lb11:80") for f in both_families]
        first = [c.first for c in held]
        server.kill()
        table = listing(b)
        running = Traffic(b, "client", "svc11:80", 4, 3)
        b.hears("warning: API server unreachable: .*; rules stay as they are")
        heard = float(metric(b, "vipmap_api_server_last_contact_timestamp_seconds"))
        b.true("last heard %.1f s ago" % (time.time() - heard), 0 <= time.time() - heard < 10, "a little while")
        b.equal("/metrics", "0", metric(b, "vipmap_api_server_connected"))
        b.until("health says so", False, lambda: server_health(b)["connected"])
        b.equal("/healthz", 200, get(b, "/healthz")[0])
        b.true("when it was last heard", server_health(b)["lastContact"], "a time")
        time.sleep(1.5)
        unchanged(b, "meanwhile", table)
        since = float(metric(b, "vipmap_api_server_last_contact_timestamp_seconds"))
        b.true("last heard at %.3f, now said to be at %.3f" % (heard, since), abs(since - heard) < 0.1, "the same")
        # what happens meanwhile is found by comparing lists: a change, an end, something new
        server.publish(base() + web(["r2"]) + both("new", 14, ["r4"]) + old())
        b.equal("connections that fail meanwhile", {}, wrong(running.tally(), 4, ["pod1", "r1"]))
        server.start()
        for f in both_families:
            b.eventually("client", "svc14:80", f, "tcp", reach("r4"), 20)
            b.expect("client", "svc11:80", f, "tcp", reach("r2"))
            b.expect("client", "svc12:80", f, "tcp", reach("pod1"))
            b.expect("client", "svc13:80", f, "tcp", DROPPED)
        b.until("connected again", True, lambda: server_health(b)["connected"])
        b.hears("info: API server reachable again after [0-9]+s")
        b.hears("info: API server: 4 Services changed meanwhile", 10)
        b.equal("/metrics", "1", metric(b, "vipmap_api_server_connected"))
        since = float(metric(b, "vipmap_api_server_last_contact_timestamp_seconds"))
        b.true("last heard %.1f s after that" % (since - heard), since > heard + 1.5, "since then")
        b.equal("connections from before", first, [c.ask() for c in held])
        b.apply(web(["r5"]))
        b.expect_both("svc11:80", "r5")


@case("an absence of the API server is a story of few lines", "API-8")
def story(b):
    with api(b) as server:
        b.program.verbosity = 0
        b.start(web(["pod1"]))
        b.hears("ready after ")
        before = len(b.program.log)
        server.kill()
        b.hears("warning: API server unreachable: [a-z].*; rules stay as they are\n")
        server.start()
        b.hears("info: API server reachable again after \\d+s\n", seconds=30)
        b.hears("info: API server: no Service changed meanwhile\n", seconds=30)
        lines = b.program.log[before:].splitlines()
        b.equal("lines that are about one kind of object", [],
                [line for line in lines if re.search(": (Service|EndpointSlice|ServiceCIDR|Node): ", line)])
        b.equal("reachable again", 1, sum("reachable again" in line for line in lines))


@case("--once waits for whatever comes last", "RUN-1 VER-6")
def once(b):
    for resource in ("services", "endpointslices", "servicecidrs", "nodes"):
        with api(b) as server:
            server.tell("set", delay={resource: 0.4})
            b.once(web(["r1"]))
            b.expect_both("svc11:80", "r1")
            for f in both_families:
                b.expect("client", "svc12:80", f, "tcp", DROPPED)
                b.expect("client", "node:30080", f, "tcp", reach("r1"))


def refuse_token(server):
    server.tell("set", token=OTHER_TOKEN)


def forbid(server):
    for resource in ("services", "endpointslices", "servicecidrs", "nodes"):
        server.tell("fault", how="status", code=403, resource=resource, times=99)


def wrong_name(server):
    server.kill()
    server.certificate = "wrong"
    server.start()


WEB_ADDRESS = addr("svc11", 4) + ":80"
REFUSALS = (("away", lambda server: server.kill(), "onnect"),
            ("that refuses the token", refuse_token, "401"),
            ("that forbids everything", forbid, "403"),
            ("with another's certificate", wrong_name, "no alternative certificate subject name"))


@case("--once and explain end when they get nothing", "RUN-1 API-8")
def gives_up(b):
    for name, spoil, says in REFUSALS:
        with api(b) as server:
            server.publish(base() + web(["r1"]))
            b.once(web(["pod1"]))
            table = listing(b)
            spoil(server)
            for words, pattern in ((["--once"], "gave up after 1s: no list of Services, .*%s.*; rules stay as they are"),
                                   (["explain", WEB_ADDRESS], "gave up after 1s: no list of Services, .*%s")):
                began = time.monotonic()
                status, out, err = b.program.run(*b.program.argv(["--timeout", "1s", *words])[1:])
                took = time.monotonic() - began
                b.equal("status of %s, server %s" % (words, name), 1, status)
                b.true("seconds of %s, server %s: %.1f" % (words, name, took), 0.9 < took < 5, "about 1")
                b.true("%s, server %s: %s" % (words, name, err[-500:]), re.search(pattern % says, err), pattern % says)
                b.equal("output", "", out)
            same_table(b, "with a server " + name, table)
            b.equal("SIGTERM too early", 1, ended_early(b))


def ended_early(b):
    b.program.launch("--once")
    b.hears("API server: ")
    status = b.program.stop(signal.SIGTERM)
    b.true(b.program.log[-300:], b.program.says("error: ended by a signal; rules stay as they are"))
    return status


@case("explain says what the answer is without", "RUN-1 VER-6")
def without_ranges(b):
    with api(b) as server:
        server.publish(base() + web(["r1"]))
        server.tell("set", delay={"servicecidrs": 9})
        status, out, err = b.program.run(*b.program.argv(["--timeout", "1s", "explain", WEB_ADDRESS])[1:])
        b.equal("status", 0, status)
        b.true(out, "verdict   DNAT to one of 1" in out)
        b.true(err[-500:], re.search("warning: no list of ServiceCIDRs from .*: the answer is without them", err))


@case("it waits for its Node", "NODE-1 EPS-13 NODE-4 NP-2")
def waits_for_node(b):
    here = [Ep("pod1", zones=("zone-a",)), Ep("r1", zones=("zone-b",))]
    with api(b) as server:
        server.publish([service_cidr()] + web(here))
        b.program.launch(*DETECT)
        b.hears(" Service: listed")
        b.hears("EndpointSlice: listed")
        time.sleep(1.5)
        b.equal("tables", "", b.in_node("nft", "list", "tables"))
        b.equal("/livez", 200, get(b, "/livez")[0])
        b.equal("/healthz, of an unknown Node", 503, get(b, "/healthz")[0])
        server.put(node(addresses=()))
        time.sleep(1.2)
        b.equal("tables, of a Node without addresses", "", b.in_node("nft", "list", "tables"))
        server.put(node(zone="zone-a"))
        for f in both_families:
            b.eventually("client", "svc11:80", f, "tcp", reach("pod1"), 2)
            b.eventually("client", "node:30080", f, "tcp", reach("pod1"), 2)
        b.equal("/healthz", 200, get(b, "/healthz")[0])
        server.put(node(zone="zone-b"))
        b.eventually("client", "svc11:80", 4, "tcp", reach("r1"), 2)
        server.put(node(addresses=("node2",), zone="zone-b"))
        for f in both_families:
            b.eventually("client", "node2:30080", f, "tcp", reach("r1"), 2)
            b.expect("client", "node:30080", f, "tcp", UNTOUCHED)


@case("a Node that is to be deleted, and one that is gone", "HZ-4 HZ-5")
def node_goes(b):
    with api(b) as server:
        b.start(web(["r1"]))
        tainted = changed(node(), "spec", "taints", value=[{"key": "ToBeDeletedByClusterAutoscaler",
                                                            "effect": "NoSchedule"}])
        for name, do, want in (("a taint", lambda: server.put(tainted), 503), ("none", lambda: server.put(node()), 200),
                               ("no Node", lambda: server.remove(node()), 503),
                               ("a Node again", lambda: server.put(node()), 200)):
            do()
            b.until("/healthz with " + name, want, lambda: get(b, "/healthz")[0])
            b.equal("/livez with " + name, 200, get(b, "/livez")[0])
            b.expect_both("svc11:80", "r1")


@case("objects that stop matching a selector", "API-1 API-2 API-6 API-7 SVC-3 VER-12", both_families)
def selectors(b, family):
    other_proxy = {"service.kubernetes.io/service-proxy-name": ""}
    with api(b) as server:
        b.start(web(["r1"]) + old() + both("none", 13, ["r3"]))
        server.put(service("old", 12, labels=other_proxy))
        b.eventually("client", "svc12:80", family, "tcp", DROPPED)
        server.put(service("old", 12, labels={"a": "b"}))
        b.eventually("client", "svc12:80", family, "tcp", reach("pod1"))
        server.put(*[changed(s, "metadata", "labels", "service.kubernetes.io/headless", value="no")
                     for s in slices("web", ["r1"])])
        b.eventually("client", "svc11:80", family, "tcp", REFUSED)
        server.put(*web(["r2"]))
        b.eventually("client", "svc11:80", family, "tcp", reach("r2"))
        headless = changed(changed(service("none", 13), "spec", "clusterIP", value="None"), "spec", "clusterIPs",
                           value=["None"])
        server.put(headless)
        b.eventually("client", "svc13:80", family, "tcp", DROPPED)


@case("what is asked, and the Event of the start", "API-1 API-2 API-3 API-4 API-5 API-9")
def asked(b):
    with api(b) as server:
        b.start(web(["r1"]))
        b.until("events", 1, lambda: len(server.events()))
        event = server.events()[0]
        b.equal("the event", ("Node", THIS_NODE, "Normal", "Starting", "StartKubeProxy", "default"),
                (event["regarding"]["kind"], event["regarding"]["name"], event["type"], event["reason"],
                 event["action"], event["metadata"]["namespace"]))
        asked_for = sorted((r["method"], r["path"]) for r in server.requests())
        b.equal("requests", [("GET", "/api/v1/nodes"), ("GET", "/api/v1/services"),
                             ("GET", "/apis/discovery.k8s.io/v1/endpointslices"),
                             ("GET", "/apis/networking.k8s.io/v1/servicecidrs"),
                             ("POST", "/apis/events.k8s.io/v1/namespaces/default/events")], asked_for)
        b.true("all with the token", all(r["authorized"] for r in server.requests()))


@case("a health-check node port that is taken", "HC-7 API-5")
def port_taken(b):
    with api(b) as server:
        with netns.inside(b.world.name["node"]):
            s = socket.create_server((addr("node", 4), 31999))
        with s:
            b.start(web(["pod1"], etp="Local", healthCheckNodePort=31999))
            b.until("an event about the Service", ["FailedToStartServiceHealthcheck"],
                    lambda: [e["reason"] for e in server.events() if e["regarding"]["kind"] == "Service"])
            event = [e for e in server.events() if e["regarding"]["kind"] == "Service"][0]
            b.equal("the event", ("web", "default", "uid-web", "Warning", "Listen", "default"),
                    (event["regarding"]["name"], event["regarding"]["namespace"], event["regarding"]["uid"],
                     event["type"], event["action"], event["metadata"]["namespace"]))
            b.true("its note: " + event["note"], all(w in event["note"] for w in (THIS_NODE, "default/web", "31999")))
            b.expect_both("lb11:80", "pod1")
        b.apply(web(["pod1"], etp="Local", healthCheckNodePort=31999))
        with netns.inside(b.world.name["client"]):
            socket.create_connection((addr("node", 4), 31999), timeout=2).close()


@case("a server of its own that cannot listen, and is to", "HZ-6 API-5")
def hard_fail(b):
    for port, reason in ((10256, "FailedToStartProxierHealthcheck"), (10249, "FailedToStartMetricServer")):
        with api(b, least=1) as server:
            server.publish(base() + web(["pod1"]))
            with netns.inside(b.world.name["node"]):
                s = socket.create_server(("127.0.0.1", port))
            with s:
                b.program.launch(*DETECT, "--bind-address-hard-fail", "--healthz-bind-address", "127.0.0.1:10256")
                b.equal("exit status", 1, b.program.process.wait(10))
                b.hears("error: .*cannot listen on 127.0.0.1 port %d" % port)
            events = [e for e in server.events() if e["reason"] == reason]
            b.equal("the event of " + reason, [("Node", THIS_NODE, "Warning", "StartKubeProxy", "default")],
                    [(e["regarding"]["kind"], e["regarding"]["name"], e["type"], e["action"],
                      e["metadata"]["namespace"]) for e in events])
            b.true("its note: " + events[0]["note"], str(port) in events[0]["note"])
            b.equal("tables", "", b.in_node("nft", "list", "tables"))
            b.program.process = None


@case("a kernel setting that cannot be made", "API-5 SYS-3")
def setting_fails(b):
    with api(b) as server:
        empty = server.path("nothing")
        os.mkdir(empty)
        b.program.mounts = {"/proc/sys/net/netfilter": empty}
        b.start(web(["r1"]), "--conntrack-udp-timeout", "61s", *DETECT)
        b.expect_both("svc11:80", "r1")
        b.hears("warning: .*nf_conntrack_udp_timeout")
        b.until("warnings about the Node", 1, lambda: sum("nf_conntrack_udp_timeout" in e["note"] for e in
                                                          server.events() if e["type"] == "Warning" and
                                                          e["regarding"]["kind"] == "Node"))


def no_token_anywhere(b):
    for word in (TOKEN, OTHER_TOKEN):
        b.true("the log at the highest verbosity", word not in b.program.log, "no token in it")
        for name in ("cmdline", "environ"):
            with open("/proc/%d/%s" % (b.program.process.pid, name), "rb") as f:
                b.true(name, word.encode() not in f.read(), "no token in it")
        for port, path in ((10249, "/configz"), (10249, "/metrics"), (10249, "/status"), (10256, "/healthz")):
            b.true(path, word not in get(b, path, port)[1], "no token in it")


def token_case(name, prepare):
    @case("a token that is rotated, " + name, "API-8 API-9")
    def run(b):
        with api(b) as server:
            write = prepare(b, server)
            b.start(web(["r1"]))
            # in time, as kubelet does it: nobody notices
            write(OTHER_TOKEN)
            server.tell("set", token=[TOKEN, OTHER_TOKEN])
            server.tell("drop")
            b.apply(web(["r2"]))
            server.tell("set", token=OTHER_TOKEN)
            server.tell("drop")
            b.apply(web(["r3"]))
            b.equal("requests that were refused", 0, sum(not r["authorized"] for r in server.requests()))
            # too late: refused for a while
            server.tell("set", token=TOKEN)
            server.tell("drop")
            b.hears("says 401", 10)
            b.expect_both("svc11:80", "r3")
            write(TOKEN)
            b.program.revision += 1
            b.program.write(base() + web(["r4"]) + b.program.marker())
            b.program.wait(20)
            b.expect_both("svc11:80", "r4")
            no_token_anywhere(b)


def with_token_file(b, server):
    def write(token):
        with open(server.path("token.new"), "w") as f:
            f.write(token + "\n")
        os.rename(server.path("token.new"), server.path("token"))
    write(TOKEN)
    b.program.kubeconfig = server.kubeconfig("by-file", tokenFile="token")
    return write


def in_cluster(b, server, host=None):
    folder = server.service_account()
    b.program.kubeconfig = None
    b.program.mounts[SERVICE_ACCOUNT] = folder
    b.program.environment.update(KUBERNETES_SERVICE_HOST=host or server.address,
                                 KUBERNETES_SERVICE_PORT="443" if host else str(server.port),
                                 KUBERNETES_PORT="tcp://172.30.0.1:443")
    return server.service_account


token_case("tokenFile", with_token_file)
token_case("in a pod", in_cluster)


@case("a token inside the kubeconfig, replaced with it", "API-8 API-9")
def token_inside(b):
    with api(b) as server:
        b.start(web(["r1"]))
        server.token = OTHER_TOKEN
        server.tell("set", token=OTHER_TOKEN)
        server.tell("drop")
        b.hears("says 401", 10)
        server.kubeconfig()
        b.program.revision += 1
        b.program.write(base() + web(["r2"]) + b.program.marker())
        b.program.wait(20)
        b.expect_both("svc11:80", "r2")
        no_token_anywhere(b)


@case("certificates that expire, name another or nobody, and are renewed", "API-8 RUN-1")
def certificates(b):
    with api(b, "--client-ca", "FOLDER/ca.crt") as server:
        b.program.kubeconfig = server.kubeconfig("by-certificate", token=TOKEN, **{
            "client-certificate": "client.crt", "client-key": "client.key"})
        b.start(web(["r1"]) + old())
        b.expect_both("svc11:80", "r1")
        time.sleep(1.5)
        for n, (certificate, says) in enumerate((("expired", "certificate has expired"),
                                                 ("wrong", "no alternative certificate subject name"))):
            server.kill()
            server.certificate = certificate
            server.start()
            server.put(*web(["r%d" % (n + 2)]))
            b.hears("warning: API server (still )?unreachable(, for another reason)?: .*" + says, 10)
            b.expect_both("svc11:80", "r%d" % (n + 1))
            server.kill()
            server.certificate = "good"
            server.start()
            for f in both_families:
                b.eventually("client", "svc11:80", f, "tcp", reach("r%d" % (n + 2)), 32)
            time.sleep(1.5)  # a bookmark, after which what was before is forgiven
        # ours is in memory: it serves on until there is a new one
        os.rename(server.path("client.key"), server.path("client.key.away"))
        server.tell("drop")
        b.hears("error: .*client.key: No such file")
        b.apply(web(["r4"]))
        os.rename(server.path("client.key.away"), server.path("client.key"))
        b.expect_both("svc11:80", "r4")
        b.true("the key is in the log", "PRIVATE KEY" not in b.program.log, "no")


@case("an API server behind the Service that is to be programmed", "RUN-1 RUN-2")
def behind_its_own_service(b):
    """In a pod without kubeconfig: the first start needs another proxy's rules, later ones have their own."""
    kubernetes = [changed(s, "spec", "ports", value=[{"name": "https", "protocol": "TCP", "port": 443}])
                  for s in [service("kubernetes", families=(4,), clusterIP="172.30.0.1", clusterIPs=["172.30.0.1"],
                                    ipFamilies=["IPv4"])]]
    kubernetes.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                       "metadata": {"name": "kubernetes", "namespace": "default",
                                    "labels": {"kubernetes.io/service-name": "kubernetes"}},
                       "ports": [{"name": "https", "protocol": "TCP", "port": 6443}],
                       "endpoints": [{"addresses": [addr("remote", 4)]}]})
    with api(b) as server:
        b.once(web(["r1"]) + kubernetes)
        in_cluster(b, server, "172.30.0.1")
        b.start(web(["r2"]) + kubernetes)
        b.expect_both("svc11:80", "r2")
        b.hears("warning: .*cluster's own service address")
        server.kill()
        server.start()
        b.apply(web(["r3"]) + kubernetes)
        b.expect_both("svc11:80", "r3")


class Monitor:
    """Counts nftables notifications of the node's namespace; `nft monitor` knows only sets younger than itself."""

    NAMES = {3: "new chain", 5: "deleted chain", 6: "new rule", 8: "deleted rule", 9: "new set", 11: "deleted set",
             12: "new element", 14: "deleted element"}

    def __init__(self, b):
        with netns.inside(b.world.name["node"]):
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 12)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 22)  # SO_RCVBUFFORCE
        self.socket.bind((0, 1 << 6))  # NFNLGRP_NFTABLES

    def seen(self):
        time.sleep(0.1)
        out = collections.Counter()
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                self.socket.close()
                return dict(out)
            while len(data) >= 16:
                length, kind = struct.unpack_from("=IH", data)
                if kind >> 8 == 10 and kind & 255 in self.NAMES:
                    out[self.NAMES[kind & 255]] += 1
                data = data[(length + 3) & ~3:]


@case("SIGKILL, and a start with nothing changed", "RUN-2 RUN-6 RUN-8 VER-15")
def killed(b):
    objects = (web(["pod1", "r1"]) + both("sticky", 13, ["pod1", "r1"], affinity=600) + both("none", 14, [])
               + both("local", 15, ["r1"], kind="LoadBalancer", lb=["lb15"], etp="Local", nodeport=30090,
                      healthCheckNodePort=31998))
    with api(b) as server:
        b.start(objects)
        b.until("ranges of ServiceCIDRs, which may come last", [True, True], lambda: has_ranges(b))
        clients = {f: b.connection("client", "svc13:80", f) for f in both_families}
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            b.stop(how)
            table, monitor = listing(b), Monitor(b)
            b.program.launch(*DETECT)
            for family in both_families:  # by its own count
                b.hears("synced IPv%d: full, .* 0 elements added, 0 deleted" % family, 10)
            b.equal("what is written after %s" % how.name, {}, monitor.seen())
            same_table(b, "after %s" % how.name, table)
            for f, c in clients.items():
                b.equal("an established connection", c.first, c.ask())
                again = b.connection("client", "svc13:80", f)
                b.equal("a sticky client's next one", c.first.split()[:2], again.first.split()[:2])
                again.close()
        # what changed while nobody looked is all that is written
        b.stop(signal.SIGKILL)
        server.put(*both("none", 14, ["r4"]))
        monitor = Monitor(b)
        b.program.launch(*DETECT)
        for f in both_families:
            b.eventually("client", "svc14:80", f, "tcp", reach("r4"), 10)
        written = monitor.seen()
        # per family and protocol: an endpoint, and the verdict taken away and added again
        b.true("elements written: %s" % written, 4 <= sum(written.values()) <= 12, "an endpoint, and what refers to it")


KUBE_PROXY = "/var/lib/kube-proxy"
KUBECONFIG_CONF = """\
apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: %s
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
"""


def kubeadm_config(**changes):
    """tests/data/goldens/kubeadm.conf, with other values for a few of its lines."""
    with open("tests/data/goldens/kubeadm.conf") as f:
        lines = f.read().splitlines()
    changes = {"clusterCIDR": CLUSTER_CIDR, "  maxPerCore": "0", "  masqueradeAll": "false", **changes}
    return "".join("%s: %s\n" % (key, changes[key]) if (key := line.split(":")[0]) in changes else line + "\n"
                   for line in lines)


class ConfigMap:
    """Files in a folder as kubelet mounts them: write() turns all at once."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)

    def write(self, **files):
        real = "..%d" % time.monotonic_ns()
        os.mkdir(os.path.join(self.folder, real))
        for name, text in files.items():
            name = name.replace("_", ".")
            with open(os.path.join(self.folder, real, name), "w") as f:
                f.write(text)
            if not os.path.islink(os.path.join(self.folder, name)):
                os.symlink("..data/" + name, os.path.join(self.folder, name))
        turn_link(real, os.path.join(self.folder, "..data"))


@case("kubeadm's ConfigMap, and changes of it", "CFG-3 RUN-2 MASQ-1 NODE-1")
def kubeadm(b):
    with api(b) as server:
        files = ConfigMap(server.path("kube-proxy"))
        kubeconfig = KUBECONFIG_CONF % server.url()
        files.write(config_conf=kubeadm_config(), kubeconfig_conf=kubeconfig)
        b.program.mounts = {KUBE_PROXY: files.folder, SERVICE_ACCOUNT: server.service_account()}
        b.start(web(["pod1", "r1"]), "--config", KUBE_PROXY + "/config.conf")
        b.expect_both("svc11:80", "pod1", "r1")
        b.expect("pod2", "svc11:80", 4, "tcp", reach("pod1", "r1", src="kept"))
        b.true("no warning of the file's fields", not b.program.says("warning: .*config"), "none")
        running = Traffic(b, "client", "svc11:80", 4, 10)
        held = [b.connection("pod2", "svc11:80", f) for f in both_families]
        for name, value, hangup, src in (("turned links", "true", False, "node"), ("SIGHUP", "false", True, "kept"),
                                         ("a bad one", "maybe", True, "kept"), ("again", "true", False, "node")):
            # the second masqueradeAll is that of nftables
            text = kubeadm_config().replace("nftables:\n  masqueradeAll: false", "nftables:\n  masqueradeAll: " + value)
            files.write(config_conf=text, kubeconfig_conf=kubeconfig)
            if hangup:
                b.program.process.send_signal(signal.SIGHUP)
            if value == "maybe":
                b.hears("error: configuration stays as it was: .*masqueradeAll")
            b.eventually("pod2", "svc11:80", 4, "tcp", reach("pod1", "r1", src=src), 6)
            b.eventually("pod2", "svc11:80", 6, "tcp", reach("pod1", "r1", src=src), 6)
            b.equal("established connections", [c.first for c in held], [c.ask() for c in held])
        b.apply(web(["pod1", "r1", "r2"]))
        b.expect_both("svc11:80", "pod1", "r1", "r2")
        # read again without an API server: what is programmed stays
        server.kill()
        files.write(config_conf=kubeadm_config(), kubeconfig_conf=kubeconfig)
        b.program.process.send_signal(signal.SIGHUP)
        b.hears("API server unreachable: ", 10)
        b.hears("configuration changed: nftables.masqueradeAll true -> false; rules of IPv4 and IPv6 replaced")
        b.expect_both("svc11:80", "pod1", "r1", "r2")
        server.start()
        b.program.revision += 1
        b.program.write(base() + web(["pod1"]) + b.program.marker())
        b.program.wait(20)
        b.equal("answers that should not be", {}, wrong(running.tally(), 4, ["pod1", "r1", "r2"]))
        b.expect_both("svc11:80", "pod1")


def lb_health(b):
    """What a load balancer is told, on the node's own address."""
    answers = []
    for f in both_families:
        with netns.inside(b.world.name["node"]):
            c = http.client.HTTPConnection(addr("node", f), 31090, timeout=30)
            try:
                c.connect()
            except ConnectionRefusedError:
                answers.append(None)
                continue
        c.request("GET", "/")
        answers.append(c.getresponse().status)
        c.close()
    return answers


@case("a reload forgets nothing, with and without an API server", "CFG-3 HZ-8 RUN-2 VER-15 AFF-3")
def forgets_nothing(b):
    lb = both("lb", 13, ["pod1", "pod2"], kind="LoadBalancer", lb=["lb13"], etp="Local", healthCheckNodePort=31090)
    sticky = both("sticky", 14, ["pod1", "pod2", "r1", "r2"], affinity=600)
    with api(b) as server:
        config = b.program.file("config.json", "{}")

        def write(cidr, kubeconfig, **more):
            text = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
                    "oomScoreAdj": 0, "conntrack": {"maxPerCore": 0}, "clusterCIDR": cidr,
                    "clientConnection": {"kubeconfig": kubeconfig}, **more}
            b.program.file("config.json.new", json.dumps(text))
            os.rename(config + ".new", config)

        first, second = server.kubeconfig("first"), server.kubeconfig("second")
        write("10.244.0.0/16", first)
        b.start(web(["pod1", "r1"]) + lb + sticky, "--config", config)
        b.until("lb13 is healthy", [200, 200], lambda: lb_health(b), 5)
        held = [b.connection("client", v, f) for f in both_families for v in ("svc11:80", "lb13:80", "svc14:80")]
        chosen = [c.first for c in held]
        table = listing(b)

        def nothing_lost(when, writes=False):
            b.equal("lb13 " + when, [200, 200], lb_health(b))
            b.equal("/healthz and /readyz " + when, (200, 200), (get(b, "/healthz")[0], get(b, "/readyz")[0]))
            b.equal("established connections " + when, chosen, [c.ask() for c in held])
            again = [b.connection("client", "svc14:80", f) for f in both_families]
            # without the client's port, which is another
            b.equal("sticky clients " + when, *[[first.rsplit(" ", 1)[0] for first in list_] for list_ in
                                                (chosen[2::3], [c.first for c in again])])
            for c in again:
                c.close()
            if not writes:
                same_table(b, when, table)

        def hang_up(says):
            before = len(b.program.log)
            b.program.process.send_signal(signal.SIGHUP)
            b.until("says " + says, True, lambda: bool(re.search(says, b.program.log[before:])), 5)

        requests = len(server.requests())
        hang_up("configuration read again: nothing has changed")
        nothing_lost("after SIGHUP")
        write("10.244.0.0/16", first, configSyncPeriod="1m")
        hang_up("configuration changed: configSyncPeriod 15m0s -> 1m0s\n")
        nothing_lost("after another period")
        b.equal("requests of reloads that do not concern the API server", requests, len(server.requests()))
        write("10.244.0.0/16", second)
        hang_up("configuration changed: clientConnection.kubeconfig .*first -> .*second.*; objects are listed again")
        b.until("lists", True, lambda: len(server.requests()) > requests, 5)
        b.until("connected", True, lambda: server_health(b)["connected"], 5)
        nothing_lost("after another kubeconfig")
        b.apply(web(["pod1", "r1"]) + lb + sticky)
        table = listing(b)
        server.kill()
        hang_up("configuration read again: nothing has changed")
        nothing_lost("without an API server")
        write("10.244.0.0/16", first)
        hang_up("configuration changed: clientConnection.kubeconfig .*; objects are listed again")
        time.sleep(0.5)
        nothing_lost("with another kubeconfig and no API server")
        write("10.250.0.0/16", first)
        hang_up("configuration changed: clusterCIDR 10.244.0.0/16 -> 10.250.0.0/16; rules of IPv4 replaced")
        nothing_lost("with another range and no API server", True)
        server.start()
        b.program.revision += 1
        b.program.write(base() + web(["pod1"]) + lb + sticky + b.program.marker())
        b.program.wait(20)
        b.expect_both("svc11:80", "pod1")
        nothing_lost("in the end", True)
