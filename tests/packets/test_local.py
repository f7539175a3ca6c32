"""The local socket and the commands that ask it, against a daemon that runs: text as people read it, data field by
field, and peers that are slow, many, huge or strangers."""
import collections
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time

from lib.apiserver import api
from lib.case import *
from lib.program import VIPMAP

NOBODY = 65534


def named(objects, zone="a"):
    """The slices among @objects with a Pod and a zone for each endpoint, as the controller writes them."""
    for o in objects:
        for e in o.get("endpoints", ()):
            name = next(n for n, h in HOSTS.items() if e["addresses"][0] in h[1:])
            e["targetRef"] = {"kind": "Pod", "namespace": "default", "name": name + "-7c9d8"}
            e["zone"] = zone if e.get("nodeName") == THIS_NODE else "b"
    return objects


def shop(**more):
    return named(both("shop", 11, ["pod1", "r1", unready("r2"), terminating("r3")], protos=("TCP",), families=(4,),
                      kind="LoadBalancer", lb=["lb11"], nodeport=30080, **more))


def everything():
    return (shop()
            + both("empty", 12, [], families=(4,))
            + both("taken", 13, ["pod1"], families=(4,), protos=("TCP",), created="2020-01-01T00:00:00Z", external=["ext9"])
            + both("thief", 14, ["pod2"], families=(4,), protos=("TCP",), created="2021-01-01T00:00:00Z", external=["ext9"])
            + [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "prod"},
                "spec": {"type": "ExternalName", "externalName": "db.example.org"}}])


def ask(b, path, **more):
    """(HTTP status, body) of the local socket."""
    with netns.inside(b.world.name["node"]):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect("\0vipmap")
    s.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
    answer = b""
    while chunk := s.recv(65536):
        answer += chunk
    s.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def page(b, path):
    status, body = ask(b, path)
    b.equal("HTTP status of " + path, 200, status)
    return json.loads(body)


def run(b, *argv, want=0):
    status, out, err = b.program.run(*argv)
    b.equal("exit status of %s; %s%s" % (" ".join(argv), out, err), want, status)
    return out


def mended(text):
    """Without what differs from run to run."""
    text = re.sub(r"vipmap \S+( \(\S+\))?  up \S+  pid \d+", "vipmap VERSION  up AGE  pid PID", text)
    text = re.sub(r"kernel \S+", "kernel KERNEL", text)
    text = re.sub(r"last sync \S+ ago, \S+ ms", "last sync AGE ago, N ms", text)
    return re.sub(r"table (owned|watched)", "table OWNED", re.sub(r"\d+ warnings?", "N warnings", text))


STATUS = """\
vipmap VERSION  up AGE  pid PID  node node1  zone -  kernel KERNEL
API server  none        objects come from manifests
IPv4        ok          6 service ports  5 endpoints  last sync AGE ago, N ms  table OWNED
IPv6        ok          1 service port   1 endpoint   last sync AGE ago, N ms  table OWNED
Health      livez 200   readyz 200   healthz 200   N warnings in the last hour
Attention
  default/empty:t80  no endpoints: connections are refused
  default/empty:u80  no endpoints: connections are refused
  default/thief:t80  default/taken:t80 holds 198.51.100.9:80/tcp (older): it gets no traffic there
"""


@case("status says it all at one glance", "")
def status(b):
    b.start(everything())
    b.equal("text", STATUS, mended(run(b, "status")))
    b.equal("--ready", "ready\n", run(b, "status", "--ready"))
    b.equal("--wait", "ready\n", run(b, "status", "--wait", "5s"))
    s = json.loads(run(b, "status", "-o", "json"))
    b.equal("fields", {"version", "revision", "pid", "startTime", "uptimeSeconds", "nodeName", "zone", "kernel",
                       "serviceCounters",
                       "apiServer", "families", "state", "health", "ready", "notReady", "attention", "attentionCount"},
            set(s))
    b.equal("pid", b.program.process.pid, s["pid"])
    b.equal("kernel", os.uname().release, s["kernel"])
    b.equal("API server", {"state": "none"}, s["apiServer"])
    b.equal("families", ["IPv4", "IPv6"], [f["family"] for f in s["families"]])
    b.equal("fields of a family", {"family", "state", "servicePorts", "endpoints", "setAside", "conflicts",
                                   "lastSyncSecondsAgo", "lastSyncMilliseconds", "tableOwned", "failedSyncs", "reason"},
            set(s["families"][0]))
    b.equal("conflicts", [1, 0], [f["conflicts"] for f in s["families"]])
    b.equal("attention", [("default/empty:t80", "refused"), ("default/empty:u80", "refused"),
                          ("default/thief:t80", "conflict")],
            [(a["service"], a["state"]) for a in s["attention"]])
    b.equal("health", (200, 200, 200), tuple(s["health"][k] for k in ("livez", "readyz", "healthz")))
    yaml = run(b, "status", "-o", "yaml")
    b.true("YAML: " + yaml, "\nstate: ok\n" in yaml and "\nfamilies:\n- family: IPv4\n  state: ok\n" in yaml)


@case("without a vipmap, status says so and exits with 4", "")
def absent(b):
    for argv in (["status"], ["status", "--ready"], ["get", "services"]):
        status, out, err = b.program.run(*argv)
        b.equal(" ".join(argv), (4, ""), (status, out))
        b.true(err, err.startswith("vipmap: no vipmap runs here: ") and err.count("\n") == 1)


@case("status waits for a vipmap that comes", "")
def waits(b):
    asking = subprocess.Popen([VIPMAP, "status", "--wait", "20s"], stdout=subprocess.PIPE, text=True,
                              preexec_fn=b.program.enter)
    time.sleep(0.3)
    b.start(shop())
    b.equal("output", "ready\n", asking.communicate(timeout=20)[0])
    b.equal("exit status", 0, asking.returncode)


@case("status tells of an API server that is away, and exits with 1", "")
def api_away(b):
    with api(b) as server:
        b.start(shop())
        s = json.loads(run(b, "status", "-o", "json"))
        b.equal("state", ("ok", "ok", True), (s["state"], s["apiServer"]["state"], s["apiServer"]["listed"]))
        b.true(s["apiServer"]["server"], s["apiServer"]["server"].startswith("http"))
        server.kill()
        b.until("exit status", 1, lambda: b.program.run("status")[0], seconds=10)
        out = run(b, "status", want=1)
        b.true(out, re.search(r"\nAPI server  DEGRADED    http\S+ unreachable for \S+ \(\d+ (try|tries)\): .+; "
                              r"rules stay as they are\n", out))
        b.equal("--ready: rules are in the kernel", "ready\n", run(b, "status", "--ready"))
        s = json.loads(run(b, "status", "-o", "json", want=1))
        b.equal("state", ("degraded", "degraded"), (s["state"], s["apiServer"]["state"]))
        b.true("tries", s["apiServer"]["tries"] >= 1)
        b.true(s["apiServer"]["reason"], s["apiServer"]["reason"])


SERVICES = """\
NAMESPACE  NAME   PORT  ADDRESS             TYPE          EXTERNAL      NODE-PORT  ENDPOINTS  STATE
default    empty  t80   172.30.0.12:80/tcp  ClusterIP     -             -          0/0        refused: no endpoints
default    empty  u80   172.30.0.12:80/udp  ClusterIP     -             -          0/0        refused: no endpoints
default    shop   t80   172.30.0.11:80/tcp  LoadBalancer  1.2.3.11      30080      2/4        ok
default    taken  t80   172.30.0.13:80/tcp  ClusterIP     198.51.100.9  -          1/1        ok
default    thief  t80   172.30.0.14:80/tcp  ClusterIP     198.51.100.9  -          1/1        conflict: default/taken:t80 holds 198.51.100.9:80/tcp (older)
"""
PROD = """\
NAMESPACE  NAME  PORT  ADDRESS  TYPE          EXTERNAL  NODE-PORT  ENDPOINTS  STATE
prod       db    -     -        ExternalName  -         -          -          ignored: a name in DNS, nothing for a proxy
"""
WIDE = """\
default  shop  t80  172.30.0.11:80/tcp  LoadBalancer  1.2.3.11  30080  2/4  1  Cluster  -  -  ok
"""
ENDPOINTS = """\
NAMESPACE  SERVICE  PORT  ENDPOINT               POD         NODE   ZONE  USED  REASON
default    shop     t80   10.180.0.11:8080/tcp   pod1-7c9d8  node1  a     yes   ready
default    shop     t80   10.180.1.21:8080/tcp   r1-7c9d8    node2  b     yes   ready
default    shop     t80   10.180.1.22:8080/tcp   r2-7c9d8    node2  b     no    not ready
default    shop     t80   10.180.1.23:8080/tcp   r3-7c9d8    node2  b     no    terminating, and others are ready
"""


def but_marker(text):
    return "".join(line + "\n" for line in text.splitlines() if "zz-marker" not in line)


def spaced(text):
    """Columns, whatever their width."""
    return re.sub(r"  +", "  ", text)


@case("get shows Services and endpoints as tables", "")
def get_tables(b):
    b.start(everything())
    b.equal("services", spaced(SERVICES), spaced(but_marker(run(b, "get", "services", "-n", "default"))))
    b.equal("of a namespace", PROD, run(b, "get", "svc", "-n", "prod"))
    b.equal("wide, one, no headers", WIDE, run(b, "get", "services", "-o", "wide", "--no-headers", "default/shop"))
    b.equal("endpoints", spaced(ENDPOINTS), spaced(run(b, "get", "endpoints", "shop:t80")))
    widths = [len(line.rsplit("  ", 1)[0]) for line in run(b, "get", "endpoints", "shop").splitlines()]
    b.equal("columns in line: " + str(widths), 1, len({line.index("default") if "default" in line else 0 for line in
                                                       run(b, "get", "endpoints", "shop").splitlines()}))
    b.true("all namespaces", "\nprod " in run(b, "get", "services", "-n", "default", "-A"))


@case("get says what was meant", "")
def get_wrong(b):
    b.start(everything())
    for argv, status, text in (
            (["services", "shap"], 1, "there is no Service shap; did you mean default/shop?"),
            (["services", "shop:http"], 1, "Service shop has no port http; its ports: t80 (80/tcp)"),
            (["endpoints", "default/emptyy"], 1, "there is no Service default/emptyy; did you mean default/empty?"),
            (["services", "prod/nothing-like-it"], 1, "there is no Service prod/nothing-like-it"),
            (["servces"], 2, "unknown resource \"servces\"; did you mean services?"),
            (["services", "-o", "xml"], 2, "\"xml\" is not wide, json or yaml"),
            ([], 2, "get: what? One of services")):
        got = b.program.run("get", *argv)
        b.equal("get " + " ".join(argv) + got[2], (status, ""), got[:2])
        b.true("get %s: want '%s', got %s" % (argv, text, got[2]), text in got[2])


@case("get gives data, field by field", "")
def get_data(b):
    b.start(everything())
    items = json.loads(run(b, "get", "services", "shop", "-o", "json"))["items"]
    b.equal("a Service", [{
        "namespace": "default", "name": "shop", "type": "LoadBalancer", "port": "t80", "protocol": "tcp",
        "servicePort": 80, "clusterIPs": ["172.30.0.11"], "loadBalancerIPs": ["1.2.3.11"], "externalIPs": [],
        "nodePort": 30080, "endpoints": {"total": 4, "used": 2, "local": 1}, "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster", "state": "ok", "message": ""}], items)
    items = json.loads(run(b, "get", "endpoints", "shop", "-o", "json"))["items"]
    b.equal("an endpoint", {
        "namespace": "default", "service": "shop", "port": "t80", "protocol": "tcp", "address": "10.180.1.23:8080",
        "pod": "r3-7c9d8", "nodeName": "node2", "zone": "b", "ready": False, "serving": True, "terminating": True,
        "onThisNode": False, "used": False, "usedLocally": False, "reason": "terminating, and others are ready"},
        items[3])
    node = json.loads(run(b, "get", "node", "-o", "json"))
    b.equal("the node", ("node1", True, [addr("node", 4), addr("node", 6)], "IPv4"),
            (node["name"], node["known"], node["addresses"], node["primaryFamily"]))
    b.equal("node port addresses", [[addr("node", 4)], [addr("node", 6)]],
            [f["nodePortAddresses"] for f in node["families"]])
    config = json.loads(run(b, "get", "config", "-o", "json"))
    b.equal("the configuration", ("KubeProxyConfiguration", CLUSTER_CIDR), (config["kind"], config["clusterCIDR"]))
    yaml = run(b, "get", "config")
    b.true("as YAML, both: " + yaml, re.search(r"(?m)^clusterCIDR: (.|\n)*^---\nkind: VipmapConfiguration\n(.|\n)*^takeOver: None$",
                                              yaml))
    config = json.loads(run(b, "get", "vipmap-config", "-o", "json"))
    b.equal("the other kind", ("VipmapConfiguration", "Never"), (config["kind"], config["closeConnections"]))


@case("get -w prints what changes, until it is interrupted", "")
def get_watch(b):
    b.start(shop())
    watching = subprocess.Popen([VIPMAP, "get", "services", "-w", "shop", "--no-headers"], stdout=subprocess.PIPE,
                                text=True, bufsize=1, preexec_fn=b.program.enter)
    b.true("first", " 2/4 " in watching.stdout.readline())
    b.apply(named(both("shop", 11, ["pod1"], protos=("TCP",), families=(4,))))
    line = watching.stdout.readline()
    b.true("then: " + line, " 1/1 " in line)
    watching.send_signal(signal.SIGINT)
    b.equal("nothing more", "", watching.communicate(timeout=30)[0])
    b.equal("exit status", 0, watching.returncode)


@case("lists come in pages, whole and in order", "")
def pages(b):
    n = 700
    b.start([o for i in range(n) for o in both("s%d" % i, 256 + i, ["pod1"], protos=("TCP",), families=(4,))])
    first = page(b, "/v1/services")
    b.equal("a page ends", 500, len(first["items"]))
    second = page(b, "/v1/services?continue=" + first["continue"])
    b.true("the second is the last", "continue" not in second)
    names = [i["name"] for i in first["items"] + second["items"]]
    b.equal("all, in order", sorted(["s%d" % i for i in range(n)] + ["zz-marker"]), names)
    b.equal("the command joins them", n + 1, len(json.loads(run(b, "get", "services", "-o", "json"))["items"]))
    b.equal("a page behind all", [], page(b, "/v1/services?continue=zzz/zzz")["items"])


@case("questions that make no sense get an answer", "")
def senseless(b):
    b.start(shop())
    for path, status in (("/", 404), ("/v1", 404), ("/v1/secrets", 404), ("/v1/services?name=%00%zz%", 200),
                         ("/v1/services?continue=%2f%2f&&=&=x", 200), ("/v1/services?" + "name=" + "x" * 9000, 200)):
        got, body = ask(b, path)
        b.equal(path[:40], status, got)
        json.loads(body)


EXPLAINED = """\
packet    10.180.0.11 (default/pod1-7c9d8, pod on this node) -> 172.30.0.11:80/tcp
service   default/shop:t80   ClusterIP   internalTrafficPolicy Cluster   affinity 3h
verdict   DNAT to one of 2, source kept (from a pod: clusterCIDR 10.180.0.0/16)
  ENDPOINT          POD         NODE   ZONE  SHARE  WHY
  10.180.0.11:8080  pod1-7c9d8  node1  a     50 %   ready, this node
  10.180.1.21:8080  r1-7c9d8    node2  b     50 %   ready
  10.180.1.22:8080  r2-7c9d8    node2  b     -      not ready
  10.180.1.23:8080  r3-7c9d8    node2  b     -      terminating, and others are ready
kernel    agrees: service-ips -> cluster-sticky-pick-2
"""


@case("status says what a policy Local without endpoints here means for traffic", "VER-3")
def dropped_here(b):
    b.start(both("inner", 11, ["r1"], families=(4,), protos=("TCP",), itp="Local")
            + both("outer", 12, ["r1"], families=(4,), protos=("TCP",), kind="LoadBalancer", lb=["lb12"], etp="Local"))
    out = run(b, "status")
    for name, policy, means in (("inner", "internal", "connections to its ClusterIP are dropped"),
                                ("outer", "external", "connections from outside are dropped")):
        b.true(out, "  default/%s:t80  %sTrafficPolicy Local, and no endpoint on this node: %s\n" % (name, policy, means) in out)
    b.expect("client", "svc11:80", 4, "tcp", DROPPED)
    b.expect("client", "lb12:80", 4, "tcp", DROPPED)
    b.expect("client", "svc12:80", 4, "tcp", reach("r1"))


@case("explain answers for what runs, and asks the kernel", "VER-4 AFF-1")
def explain(b):
    b.start(shop(affinity=10800), *DETECT, "--masquerade-all=false")
    b.equal("text", EXPLAINED, run(b, "explain", "default/pod1-7c9d8", "default/shop:t80"))
    b.equal("the same by addresses", EXPLAINED, run(b, "explain", addr("pod1", 4), "tcp", addr("svc11", 4), "80"))
    # whom a client is remembered for: the one that it met
    met = b.probe("pod2", "svc11:80", 4, "tcp")[0]
    out = run(b, "explain", addr("pod2", 4), "shop")
    b.true("remembered for %s: %s" % (met.local, out),
           re.search(r"; this client is remembered for %s, (3h|179m|2h59m) left\n" % re.escape(met.local), out))
    b.true("another client is not", "remembered" not in run(b, "explain", addr("pod3", 4), "shop"))
    item = json.loads(run(b, "explain", "-o", "json", addr("pod2", 4), "shop"))["items"][0]
    fields = {"source", "sourceKind", "destination", "port", "protocol", "verdict", "reason", "service", "role", "policy",
              "affinityTimeoutSeconds", "choices", "masqueraded", "sourceReason", "list", "endpointsTotal", "endpoints", "kernel"}
    b.equal("fields", fields, set(item))
    known = json.loads(run(b, "explain", "-o", "json", "default/r1-7c9d8", "shop"))["items"][0]
    b.equal("fields of a source that is known", fields | {"sourcePod", "sourceNode", "sourceOnThisNode"}, set(known))
    b.true("a pod elsewhere", "(default/r1-7c9d8, pod on node node2) -> " in run(b, "explain", "default/r1-7c9d8", "shop"))
    b.equal("the kernel", (True, 0, met.local), (item["kernel"]["agrees"], item["kernel"]["differences"],
                                                 item["kernel"]["rememberedFor"]))
    b.equal("shares", [50, 50, 0, 0], [e["sharePercent"] for e in item["endpoints"]])
    # the running configuration counts, not the one of the command
    b.start(shop(), *DETECT, "--masquerade-all")
    b.true("its configuration", "source masqueraded (masqueradeAll)\n" in run(b, "explain", "shop"))
    out = run(b, "explain", "--manifests", b.program.manifests, "--hostname-override", "node1", *DETECT, "shop")
    b.true("another one: " + out, "source kept" in out and "kernel" not in out)


@case("explain names an address that a Service does not have, and a port that is none", "SVC-11")
def explain_conflict(b):
    b.start(everything())
    b.true("a note", "note      default/taken:t80 holds 198.51.100.9:80/tcp (older): default/thief:t80 gets no traffic there\n"
           in run(b, "explain", "thief"))
    b.true("no note", "note" not in run(b, "explain", "taken"))
    for where in ("10.0.0.1:99999", "10.0.0.1:0/udp", "10.0.0.1:http", "[fd00::1]:99999"):
        status, out, err = b.program.run("explain", where)
        b.true("%s: %d %s" % (where, status, err), status == 2 and not out and "is not between 1 and 65535" in err)
    status, _, err = b.program.run("explain", "default/xy")
    b.true("nothing is near: %d %s" % (status, err), status == 1 and "did you mean" not in err)
    status, _, err = b.program.run("monitor", "-x")
    b.equal("one letter", (2, "error: unknown flag -x; vipmap --help lists all\n"), (status, err))


@case("explain knows the ways from outside", "LB-1 POL-2 NP-1")
def explain_outside(b):
    b.start(shop(etp="Local", ranges=["192.168.1.0/24"]))
    for source, destination, verdict, path in (
            ("client", "lb11:80", "DNAT to one of 1 on this node, source kept (externalTrafficPolicy Local)",
             "service-ips -> firewall/default/shop -> firewalled -> external-local -> local-policy -> local-pick-1"),
            ("client2", "lb11:80", "dropped: not in loadBalancerSourceRanges",
             "service-ips -> firewall/default/shop"),
            ("client", "node:30080", "DNAT to one of 1 on this node, source kept (externalTrafficPolicy Local)",
             "service-nodeports -> nodeport-external-local -> nodeport-local-policy -> nodeport-local-pick-1"),
            ("node", "lb11:80", "DNAT to one of 2, source masqueraded (from this node)",
             "service-ips -> firewall/default/shop -> firewalled -> external-local -> cluster-policy -> pick-2"),
            ("client", "svc11:80", "DNAT to one of 2, source masqueraded (not from a pod: clusterCIDR 10.180.0.0/16)",
             "service-ips -> cluster-pick-2"),
            ("pod2", "node:30080", "DNAT to one of 2, source kept (externalTrafficPolicy Local)",
             "service-nodeports -> nodeport-external-local -> nodeport-cluster-policy -> nodeport-pick-2")):
        name, _, port = destination.partition(":")
        out = run(b, "explain", addr(source, 4), join(addr(name, 4), int(port)))
        lines = [line.split(None, 1) for line in out.splitlines()]
        b.equal("%s -> %s" % (source, destination), [verdict, "agrees: " + path],
                [rest for word, rest in lines if word in ("verdict", "kernel")])


CHANGED = """\
- element ip vipmap endpoints { 172.30.0.11 . tcp . 80 . 1 : 10.180.1.21 . 8080 }
+ element ip vipmap endpoints { 172.30.0.11 . tcp . 80 . 1 : 10.180.1.24 . 8080 }
"""


@case("diff is silent while all is well, and tells what other objects would change", "RUN-5")
def diff(b):
    b.start(everything() + named(both("sticky", 20, ["pod1", "r1"], affinity=100)
                                 + both("ranges", 21, ["pod1"], kind="LoadBalancer", lb=["lb21"], etp="Local",
                                        itp="Local", ranges=["10.9.0.0/16", "fd99::/64"], nodeport=30090)
                                 + both("hints", 22, [Ep("pod1", zones=("a",)), Ep("r1", zones=("b",))])))
    b.equal("what runs", "", run(b, "diff"))
    objects = named(both("shop", 11, ["pod1", "r4"], protos=("TCP",), families=(4,)))
    b.start(named(both("shop", 11, ["pod1", "r1"], protos=("TCP",), families=(4,))))
    other = b.program.file("other.json", json.dumps({"apiVersion": "v1", "kind": "List", "items":
                                                     base() + objects + b.program.marker()}))
    argv = ("diff", "--manifests", other, "--hostname-override", "node1") + DETECT
    b.equal("other objects", CHANGED, run(b, *argv, want=1))
    b.equal("it changes nothing", CHANGED, run(b, *argv, want=1))
    b.stop()
    b.nft("delete element ip vipmap service-ips { 172.30.0.11 . tcp . 80 }\n"
          "add element ip vipmap service-nodeports { tcp . 31234 : drop }\n")
    out = run(b, *argv, want=1)
    b.true(out, "\n+ element ip vipmap service-ips { 172.30.0.11 . tcp . 80 comment \"default/shop:t80\" : goto "
           in "\n" + out and "- element ip vipmap service-nodeports { tcp . 31234 : drop }\n" in out)


FENCED = """\
- element ip vipmap ranges/default/fenced { 10.8.0.0/16 }
+ element ip vipmap ranges/default/fenced { 10.9.0.0/16 }
"""


@case("diff and preflight know the source ranges of Services", "RUN-5 LB-4")
def ranges_known(b):
    def fenced(*ranges):
        return named(both("fenced", 11, ["pod1"], protos=("TCP",), families=(4,), kind="LoadBalancer", lb=["lb11"],
                          ranges=ranges))
    b.start(fenced("10.7.0.0/16", "10.8.0.0/16"))
    other = b.program.file("other.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": base()
                                                     + fenced("10.7.0.0/16", "10.9.0.0/16") + b.program.marker()}))
    argv = ("diff", "--manifests", other, "--hostname-override", "node1") + DETECT
    b.equal("other ranges", FENCED, run(b, *argv, want=1))
    b.stop()
    b.true("preflight tells of the table", "will be adopted" in
           run(b, "preflight", "--hostname-override", "node1", "--manifests", b.program.manifests, *DETECT))
    b.start([])
    out = run(b, *argv, want=1)
    b.true(out, "+ element ip vipmap ranges/default/fenced { 10.9.0.0/16 }\n" in out)


def preflight(b, *argv, want=0):
    out = run(b, "preflight", "--hostname-override", "node1", *argv, want=want)
    return [line.split(None, 1) for line in out.splitlines()]


KUBE_PROXY = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ipvs" if self.path == "/proxyMode" else b"?")
server = http.server.HTTPServer(("127.0.0.1", 10249), Handler)
print("ready", flush=True)
server.serve_forever()
"""


# As kube-proxy makes it, as far as it is looked at.
KUBE_PROXY_TABLE = """table ip kube-proxy {
	set nodeport-ips { type ipv4_addr; elements = { 192.168.1.1, 192.168.1.5 }; }
	map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = {
		172.30.0.1 . tcp . 443 : drop, 172.30.0.10 . udp . 53 : drop, 172.30.0.10 . tcp . 53 : drop }; }
	map service-nodeports { type inet_proto . inet_service : verdict; elements = {
		tcp . 30080 : drop, tcp . 30443 : drop }; }
}"""


@case("preflight tells what is well and what is not, and changes nothing", "RUN-10")
def preflight_case(b):
    b.program.cleanup()
    b.world.sysctl("node", net__netfilter__nf_conntrack_tcp_timeout_close_wait=60)  # as at boot
    before = b.in_node("nft", "list", "ruleset")
    with api(b) as server:
        server.publish(base())
        argv = ("--kubeconfig", server.kubeconfig()) + DETECT
        lines = preflight(b, *argv)
        texts = [rest for _, rest in lines]
        b.equal("words " + repr(lines), ["ok", "ok", "ok", "warn", "ok"], [word for word, _ in lines[:5]])
        settings = [rest for _, rest in lines[5:]]
        b.true("settings that would be changed: %s" % settings, any(
            re.match(r"/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait: would be set from \d+ to 3600$", rest)
            for rest in settings) and all(" would be set from " in rest for rest in settings))
        b.true(texts[4], re.match(r"conntrack: \d+ of \d+ entries(; the limit is higher than configured, and stays)?$", texts[4]))
        mine = [w for w in preflight(b, *argv, "--conntrack-min", "1", "--conntrack-max-per-core", "1")
                if "limit" in w[1] or "nf_conntrack_max" in w[1]]
        b.equal("a limit that is never lowered", True, len(mine) == 1 and mine[0][1].endswith(
            " entries; the limit is higher than configured, and stays"))
        lines = preflight(b, *argv, "--proxy-mode", "iptables", want=1)
        b.equal("another mode", [["FAIL", "configuration: --proxy-mode: \"iptables\" is not offered, vipmap knows only \"nftables\" (or \"\")"]],
                [line for line in lines if line[0] == "FAIL"])
        b.true("the rest all the same: %s" % lines, any(rest.startswith("configuration: pods are told") for _, rest in lines))
        b.true(texts[0], re.match(r"kernel %s: all that the rules need; (no )?table ownership.*; (no )?flowtables" %
                                  re.escape(os.uname().release), texts[0]))
        b.true(texts[1], re.match(r"API server http\S+ reachable as system:serviceaccount:kube-system:vipmap; may "
                                  r"list and watch services, endpointslices, servicecidrs, nodes$", texts[1]))
        b.equal("node ports", "nodePortAddresses is unset: node ports answer on 192.168.1.1, fd00:1::1 only (kube-proxy in mode "
                "iptables: on all addresses)", texts[3])
        b.equal("pods", "configuration: pods are told by ClusterCIDR " + CLUSTER_CIDR, texts[2])
        b.equal("the ruleset", before, b.in_node("nft", "list", "ruleset"))
        b.nft(KUBE_PROXY_TABLE)
        b.world.ip("node", "link add kube-ipvs0 type bridge")
        try:
            lines = preflight(b, *argv)
            b.true("nftables: %s" % lines, ["warn", "nftables table ip kube-proxy: another proxy's rules translate the same "
                                            "addresses; --take-over kube-proxy removes them once it has stopped"] in lines)
            b.true("what it has: %s" % lines, ["ok", "kube-proxy's table ip: 3 addresses of Services, 2 node ports on 192.168.1.1, "
                                               "192.168.1.5"] in lines)
            b.equal("node ports as now", [], [rest for _, rest in lines if "kube-proxy's node ports" in rest])
            fewer = preflight(b, *argv, "--nodeport-addresses", "192.168.1.1/32,fd00:1::/64")
            b.equal("node ports that would end", ["kube-proxy's node ports answer on 192.168.1.5, vipmap's will not: see "
                                                  "nodePortAddresses"],
                    [rest for word, rest in fewer if word == "warn" and "kube-proxy's node ports" in rest])
            b.nft("flush set ip kube-proxy nodeport-ips")
            everywhere = preflight(b, *argv, "--nodeport-addresses", "192.168.1.1/32,fd00:1::/64")
            b.equal("node ports on all addresses", ["kube-proxy's node ports answer on all addresses of the node, vipmap's will "
                                                    "on fewer: see nodePortAddresses"],
                    [rest for word, rest in everywhere if word == "warn" and "kube-proxy's node ports" in rest])
            b.true("refresh: %s" % lines, ["ok", "kube-proxy's rules: nobody has changed them for 3 s"] in lines)
            asking = subprocess.Popen([VIPMAP, "preflight", "--hostname-override", "node1", *argv], text=True,
                                      stdout=subprocess.PIPE, preexec_fn=b.program.enter)
            while asking.poll() is None:
                b.nft("add chain ip kube-proxy c; add rule ip kube-proxy c drop; flush chain ip kube-proxy c")
                time.sleep(0.05)
            out = asking.stdout.read()
            b.true("it runs: " + out, "kube-proxy's rules have just been changed: it is running\n" in out)
            b.true("ipvs: %s" % lines, any("kube-ipvs0" in rest for word, rest in lines if word == "warn"))
        finally:
            b.nft("delete table ip kube-proxy")
            b.world.ip("node", "link del kube-ipvs0")
        with subprocess.Popen([sys.executable, "-c", KUBE_PROXY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              preexec_fn=b.program.enter) as other:
            try:
                other.stdout.readline()
                lines = preflight(b, *argv)
            finally:
                other.kill()
            b.true("who answers: %s" % lines, ["warn", "kube-proxy is running (mode ipvs): it answers at 127.0.0.1:10249"] in lines)
        server.put(*both("fenced", 11, ["pod1"], kind="LoadBalancer", lb=["lb11"], ranges=["10.7.0.0/16"]),
                   *both("open", 12, ["pod1"], kind="LoadBalancer", lb=["lb12"]))
        lines = preflight(b, *argv)
        b.true("source ranges: %s" % lines, any(word == "ok" and rest.startswith(
            "loadBalancerSourceRanges of 1 Service (default/fenced): other sources are dropped") for word, rest in lines))
        gone = [o for o in server.objects.values() if o["kind"] == "Node"]
        server.remove(*gone)
        lines = preflight(b, *argv)
        b.true("no such Node: %s" % lines, any(word == "warn" and rest.startswith("Node node1: there is none of this name")
                                               for word, rest in lines))
        server.put(*gone)
        server.tell("set", forbidden=["watch endpointslices"])
        lines = preflight(b, *argv, want=1)
        b.equal("half of a right", [["FAIL", "API server: may list EndpointSlices, but not watch them: status 403: see the "
                                     "ClusterRole in scripts/deploy/base"]], [line for line in lines if line[0] == "FAIL"])
        server.tell("set", forbidden=["endpointslices"])
        lines = preflight(b, *argv, want=1)
        b.equal("a right that lacks", [["FAIL", "API server: may not list EndpointSlices: status 403: see the ClusterRole in "
                                        "scripts/deploy/base"]], [line for line in lines if line[0] == "FAIL"])
        server.kill()
        lines = preflight(b, *argv, want=1)
        b.true("away: %s" % lines, any(word == "FAIL" and "cannot be reached" in rest for word, rest in lines))
    b.start(shop())
    lines = preflight(b, "--manifests", b.program.manifests, *DETECT)
    b.true("what runs: %s" % lines, ["ok", "a vipmap runs here (process %d): see \"vipmap status\"" %
                                     b.program.process.pid] in lines)


@case("flows are listed by Service", "")
def flows(b):
    b.start(both("shop", 11, ["pod1", "r1"], kind="LoadBalancer", lb=["lb11"], nodeport=30080)
            + both("other", 12, ["r2"]))
    b.program.flush()
    held = [b.connection("client", v, f) for v in ("svc11:80", "lb11:80", "node:30080", "svc12:80") for f in both_families]
    b.connection("client", "svc11:80", 4, "udp").close()
    items = json.loads(run(b, "flows", "-o", "json"))["items"]
    mine = [i for i in items if i["client"].rpartition(":")[0].strip("[]") in HOSTS["client"][1:]
            and "zz-marker" not in i["service"]]
    want = {(("default/other" if "12" in v else "default/shop") + ":t80", join(addr(v.partition(":")[0], f),
                                                                              int(v.partition(":")[2])))
            for v in ("svc11:80", "lb11:80", "node:30080", "svc12:80") for f in both_families}
    tcp = [i for i in mine if i["protocol"] == "tcp"]
    b.equal("Services and destinations", want, {(i["service"], i["destination"]) for i in tcp})
    b.equal("states", {"ESTABLISHED"}, {i["state"] for i in tcp})
    # the endpoints are those that answered
    met = collections.Counter(c.first.split()[-2] for c in held)
    b.equal("endpoints", met, collections.Counter(i["endpoint"] for i in tcp))
    b.equal("UDP", [("default/shop:u80", join(addr("svc11", 4), 80), "")],
            [(i["service"], i["destination"], i["state"]) for i in mine if i["protocol"] == "udp"])
    text = run(b, "flows", "other")
    b.equal("of one Service: " + text, 3, len(text.splitlines()))
    b.true(text, re.search(r"(?m)^default/other:t80  \S+  +172.30.0.12:80/tcp  +10.180.1.22:8080  +ESTABLISHED  \S+$", text))
    b.equal("at most", 1, len(json.loads(run(b, "flows", "-o", "json", "--limit", "1"))["items"]))
    status, _, err = b.program.run("flows", "shap")
    b.true(err, status == 1 and "did you mean default/shop?" in err)
    for c in held:
        c.close()


@case("debug makes an archive of all that matters, and of no secrets", "")
def debug(b):
    secret = "t0p-s3cret-t0ken"
    with api(b, token=secret):
        b.start(shop() + both("other", 12, ["r2"], affinity=5))
        done = subprocess.run([VIPMAP, "debug"], capture_output=True, preexec_fn=b.program.enter, timeout=30)
        b.equal("exit status; " + done.stderr.decode(), 0, done.returncode)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            files = {m.name: tar.extractfile(m).read().decode() for m in tar}
        names = ["config.json", "diff-ip.txt", "diff-ip6.txt", "endpoints-1.json", "log.txt", "metrics.txt", "node.json",
                 "objects-1.json", "services-1.json", "status.json", "vipmap-config.json", "wanted-ip.nft", "wanted-ip6.nft"]
        b.equal("files", ["vipmap-debug/" + n for n in names], sorted(files))
        get_ = lambda name: files["vipmap-debug/" + name]
        b.equal("the kernel agrees", ("", ""), (get_("diff-ip.txt"), get_("diff-ip6.txt")))
        b.true("the log", " ready after " in get_("log.txt") or "info: " in get_("log.txt"))
        b.true("metrics", "\nvipmap_build_info{" in get_("metrics.txt"))
        b.equal("status", "ok", json.loads(get_("status.json"))["state"])
        b.equal("both configurations", ["KubeProxyConfiguration", "VipmapConfiguration"],
                [json.loads(get_(n))["kind"] for n in ("config.json", "vipmap-config.json")])
        b.equal("secrets", [], [n for n, text in files.items() if secret in text])
        # the objects can be read again, and give the same table
        other = b.program.file("bundle.json", get_("objects-1.json"))
        text = run(b, "--dry-run", "--manifests", other, "--hostname-override", "node1", *DETECT)
        b.equal("the table", get_("wanted-ip.nft") + get_("wanted-ip6.nft"), text)
    b.equal("version", {"version", "revision"}, set(json.loads(run(b, "version", "-o", "json"))))


def connect(b):
    with netns.inside(b.world.name["node"]):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect("\0vipmap")
    return s


@case("strangers are refused, and see nothing", "")
def strangers(b):
    b.start(shop())

    def enter():
        b.program.enter()
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    done = subprocess.run([VIPMAP, "status"], capture_output=True, text=True, preexec_fn=enter, timeout=10)
    b.equal("a stranger", (1, ""), (done.returncode, done.stdout))
    b.true(done.stderr, "answers only root and its own user" in done.stderr)


@case("slow, silent and greedy peers do not hold anything up", "")
def hostile(b):
    b.start([o for i in range(300) for o in both("s%d" % i, 256 + i, ["pod1", "r1"], protos=("TCP",), families=(4,))])
    crowd = [connect(b) for _ in range(100)]  # that say nothing
    for i, s in enumerate(crowd):
        try:
            if i % 3 == 1:
                s.sendall(b"GET /v1/endpoints HTTP/1.1\r\n\r\n")  # and never read
            elif i % 3 == 2:
                s.sendall(b"GET /v1/status HTTP/1.1\r\nX: ")  # and never end
        except OSError:
            pass  # made room for others
    changed_ = b.apply(shop())
    b.true("a change takes %.0f ms among them" % (changed_ * 1000), changed_ < 1.0)
    b.true("others are answered", page(b, "/v1/status")["ready"])
    s = connect(b)
    try:
        s.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200000)
        s.shutdown(socket.SHUT_WR)
        got = s.recv(100)
    except OSError:
        got = b"HTTP/1.1 431"
    b.true("endless head: %r" % got, got.startswith(b"HTTP/1.1 431"))
    with open("/proc/%d/status" % b.program.process.pid) as f:
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", f.read()).group(1))
    b.true("memory at its peak: %d kB" % peak, peak < 64 * 1024 or "SAN" in os.environ)
    for s in crowd:
        s.close()


@case("a second vipmap is told whose the name is, goes on, and takes it over later", "")
def second(b):
    b.start(shop())
    first = b.program.process.pid
    argv = [VIPMAP, "--manifests", b.program.manifests, "--hostname-override", "node1", "--conntrack-max-per-core", "0",
            "--healthz-bind-address", "", "--metrics-bind-address", ""]
    other = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, preexec_fn=b.program.enter)
    try:
        line = ""
        while "@vipmap" not in line:
            line = other.stderr.readline()
            b.true("it tells", line)
        b.true(line, "@vipmap is taken by process %d" % first in line)
        b.equal("who answers", first, page(b, "/v1/status")["pid"])
        b.stop()

        def pid():
            try:
                return page(b, "/v1/status")["pid"]
            except OSError:
                return None
        b.until("who answers later", other.pid, pid, seconds=10)
    finally:
        other.terminate()
        other.communicate()
