"""--take-over kube-proxy (BEY-7): kube-proxy's rules, as each of its modes leaves them, go when it has stopped, and
nothing else changes meanwhile, neither rules nor packets."""
import contextlib
import http.server
import json
import threading
import time

from lib.case import *
from lib.traffic import Traffic, wrong

# As kube-proxy's modes lay them out, in small. The Service is svc21, its endpoint pod1.
NFTABLES = """
table %(family)s kube-proxy {
	comment "rules for kube-proxy";
	set cluster-ips { type %(type)s; elements = { %(vip)s }; }
	map service-ips { type %(type)s . inet_proto . inet_service : verdict;
		elements = { %(vip)s . tcp . 80 : goto service-ABCDEFGH-default/web/tcp/t80 }; }
	chain endpoint-XYZ-default/web/tcp/t80__%(ep)s/8080 { meta l4proto tcp dnat to %(dnat)s; }
	chain service-ABCDEFGH-default/web/tcp/t80 { goto endpoint-XYZ-default/web/tcp/t80__%(ep)s/8080; }
	chain services { %(family)s daddr . meta l4proto . th dport vmap @service-ips; }
	chain mark-for-masquerade { mark set mark or 0x4000; }
	chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
}
"""
IPTABLES = """
table %(family)s nat {
	chain KUBE-SERVICES { %(family)s daddr %(vip)s tcp dport 80 counter jump KUBE-SVC-ABCDEFGHIJKLMNOP; }
	chain KUBE-SVC-ABCDEFGHIJKLMNOP { counter jump KUBE-MARK-MASQ; counter jump KUBE-SEP-ABCDEFGHIJKLMNOP; }
	chain KUBE-SEP-ABCDEFGHIJKLMNOP { meta l4proto tcp counter dnat to %(dnat)s; }
	chain KUBE-MARK-MASQ { counter meta mark set mark or 0x4000; }
	chain KUBE-NODEPORTS { counter jump KUBE-SVC-ABCDEFGHIJKLMNOP; }
	chain KUBE-POSTROUTING { meta mark & 0x4000 == 0 return; counter masquerade; }
	chain KUBE-KUBELET-CANARY { }
	chain CNI-HOSTPORT { tcp dport 9999 counter; %(held)s }
	chain PREROUTING { type nat hook prerouting priority dstnat; counter jump KUBE-SERVICES; counter jump CNI-HOSTPORT; }
	chain OUTPUT { type nat hook output priority -100; counter jump CNI-HOSTPORT; counter jump KUBE-SERVICES; }
	chain POSTROUTING { type nat hook postrouting priority srcnat; counter; counter jump KUBE-POSTROUTING; }
}
table %(family)s filter {
	chain KUBE-FORWARD { ct state invalid counter; }
	chain KUBE-FIREWALL { counter; }
	chain KUBE-ROUTER-FORWARD { counter; }
	chain KUBE-PROXY-FIREWALL { }
	chain INPUT { type filter hook input priority filter; counter jump KUBE-FIREWALL; }
	chain FORWARD { type filter hook forward priority filter; counter jump KUBE-PROXY-FIREWALL; counter jump KUBE-FORWARD;
		counter jump KUBE-ROUTER-FORWARD; }
}
table %(family)s mangle { chain KUBE-PROXY-CANARY { }; chain KUBE-IPTABLES-HINT { }; }
"""
STAY = {"KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-ROUTER-FORWARD", "KUBE-IPTABLES-HINT"}
HEALTH = b'{"lastUpdated": "2026-01-01 00:00:00 +0000 UTC","currentTime": "2026-01-01 00:00:00 +0000 UTC", "nodeEligible": true}'
TAKE_OVER = DETECT + ("--take-over", "kube-proxy")


def rules(*texts, held=""):
    out = ""
    for family in (4, 6):
        pod, vip = addr("pod1", family), addr("svc21", family)
        values = {"family": "ip" if family == 4 else "ip6", "type": "ipv4_addr" if family == 4 else "ipv6_addr",
                  "vip": vip, "ep": pod.replace(":", "_"), "held": held,
                  "dnat": "%s:8080" % pod if family == 4 else "[%s]:8080" % pod}
        out += "".join(text % values for text in texts)
    return out


class Kubeproxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path in ("/healthz", "/livez")
        body = HEALTH if known else b"404 page not found\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def answering(b):
    """Port 10256 of the node answers as kube-proxy's does, while in the block."""
    with netns.inside(b.world.name["node"]):
        server = http.server.ThreadingHTTPServer(("0.0.0.0", 10256), Kubeproxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def items(b):
    return json.loads(b.in_node("nft", "-j", "list", "ruleset"))["nftables"][1:]


def whose(item):
    """(kind, table, chain or name)"""
    kind, what = next(iter(item.items()))
    if kind == "table":
        return kind, what["name"], ""
    return kind, what["table"], what.get("chain") if kind == "rule" else what["name"]


def is_kubeproxys(item):
    kind, table, name = whose(item)
    text = json.dumps(item)
    return (table == "kube-proxy" or table in ("nat", "filter", "mangle")
            and (name.startswith("KUBE-") and name not in STAY
                 or any('"target": "%s' % n in text for n in ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-PROXY-FIREWALL", "KUBE-FORWARD"))))


def others(b):
    """All that is not kube-proxy's, with handles but without what packets count."""
    return [re.sub(r'"(packets|bytes)": \d+', "", json.dumps(i, sort_keys=True)) for i in items(b)
            if not is_kubeproxys(i)]


def left(b):
    return sorted({whose(i) for i in items(b) if is_kubeproxys(i)})


def web():
    return both("web", 21, ["pod1", "pod2"], protos=("TCP",))


@case("kube-proxy's rules go when it has stopped, under traffic, and nothing else changes", "BEY-7")
def goes(b):
    b.nft(rules(NFTABLES, IPTABLES))
    b.nft("table ip custom { chain c { type filter hook forward priority 5; counter; }; }")
    with answering(b):
        b.start(web(), *TAKE_OVER)
        b.hears("kube-proxy's rules stay until it has stopped: table ip kube-proxy", 10)
        before, there = others(b), left(b)
        traffic = [Traffic(b, "client", "svc21:80", f, 30, rate=150) for f in both_families]
        time.sleep(12)
        b.equal("kube-proxy's objects while it answers", there, left(b))
    b.hears("kube-proxy is gone, and its rules are removed", 25)
    b.equal("kube-proxy's objects", [], left(b))
    b.equal("the others' objects", before, others(b))
    for f, t in zip(both_families, traffic):
        tally = t.tally()
        b.equal("connections that went wrong, IPv%d" % f, {}, wrong(tally, f, ["pod1", "pod2"]))
        b.true("connections: %s" % tally, sum(tally.values()) > 500)
    b.expect_both("svc21:80", "pod1", "pod2")


@case("a chain of kube-proxy's that a CNI plugin uses stays", "BEY-7")
def held(b):
    b.nft(rules(NFTABLES, IPTABLES, held="counter jump KUBE-MARK-MASQ;"))
    with answering(b):
        b.start(web(), *TAKE_OVER)
        b.hears("kube-proxy's rules stay until", 10)
        time.sleep(1)
    b.hears("4 chains of kube-proxy stay: rules of another program lead to them", 25)
    kept = {(kind, table, name) for kind, table, name in left(b)}
    b.equal("kept", {(k, "nat", n) for k in ("chain", "rule") for n in ("KUBE-MARK-MASQ", "KUBE-POSTROUTING")}
            | {("rule", "nat", "POSTROUTING")}, kept)


@case("rules that are still refreshed stay; they go a minute after the last time", "BEY-7")
def refreshed(b):
    b.nft(rules(NFTABLES))
    b.start(web(), *TAKE_OVER)
    b.hears("kube-proxy's rules stay until", 10)
    there, began = left(b), time.monotonic()
    # a sync of kube-proxy's that makes an endpoint's chain anew
    name = "ip kube-proxy endpoint-XYZ-default/web/tcp/t80__%s/8080" % addr("pod1", 4)
    while time.monotonic() - began < 75:
        last = time.monotonic()
        b.nft("flush chain %s\nadd rule %s meta l4proto tcp dnat to %s:8080" % (name, name, addr("pod1", 4)))
        time.sleep(15)
        b.equal("kube-proxy's objects", there, left(b))
    b.hears("kube-proxy is gone, and its rules are removed: table ip kube-proxy, table ip6 kube-proxy", 80)
    b.true("seconds since the last refresh", time.monotonic() - last >= 60)
    b.expect_both("svc21:80", "pod1", "pod2")


@case("without the setting all stays, and it may be set later", "BEY-7 CFG-3")
def later(b):
    for family in ("ip", "ip6"):  # what a case before this one left on purpose
        b.in_node("nft", "delete", "table", family, "nat", check=False)
    b.nft(rules(NFTABLES))
    b.world.ip("node", "link add kube-ipvs0 type bridge")
    head = "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n"
    path = b.program.file("vipmap.yaml", head)
    with answering(b):
        b.start(web(), *DETECT, "--vipmap-config", path)
        there = left(b)
        time.sleep(6)
        b.true("the log: " + b.program.log, "rules stay until" not in b.program.log)
        b.program.file("vipmap.yaml", head + "takeOver: KubeProxy\n")
        b.hears("takeOver None -> KubeProxy", 10)
        b.hears("kube-proxy's rules stay until.*interface kube-ipvs0", 10)
        b.equal("kube-proxy's objects while it answers", there, left(b))
    b.hears("interface kube-ipvs0 of kube-proxy removed", 25)
    b.hears('clear its virtual servers with "ipvsadm --clear"')
    b.equal("kube-proxy's objects", [], left(b))
    b.equal("links", [], [l for l in b.in_node("ip", "-o", "link").splitlines() if "kube-ipvs0" in l])
