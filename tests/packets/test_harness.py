"""The harness itself, on rules written by hand: each verdict is recognised, and a wrong one is not taken for right.

svc1 is translated to pod1 and r1, source kept; svc2 the same with masquerade; svc3 is rejected as vipmap does; svc4 with
ICMP for TCP too; svc5 is dropped; svc6 reaches pod1 only. Everything else is left alone."""
from lib.case import *
from lib import packet

RULES = """
table %(family)s byhand {
  chain reject-chain { meta l4proto tcp reject with tcp reset; reject; }
  chain services {
    meta l4proto { tcp, udp } %(ip)s daddr %(svc1)s dnat to numgen random mod 2 map { 0 : %(pod1)s . 8080, 1 : %(r1)s . 8080 }
    meta l4proto { tcp, udp } %(ip)s daddr %(svc2)s meta mark set meta mark or 0x4000 dnat to numgen random mod 2 map { 0 : %(pod1)s . 8080, 1 : %(r1)s . 8080 }
    %(ip)s daddr %(svc3)s goto reject-chain
    %(ip)s daddr %(svc4)s reject
    %(ip)s daddr %(svc5)s drop
    meta l4proto { tcp, udp, sctp } th dport 80 %(ip)s daddr %(svc6)s dnat to %(pod1)s : 8080
  }
  chain prerouting { type nat hook prerouting priority dstnat; goto services; }
  chain output { type nat hook output priority -100; goto services; }
  chain postrouting {
    type nat hook postrouting priority srcnat
    meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
  }
}
"""


def rules(bench, *_):
    for family in both_families:
        names = {n: addr(n, family) for n in ("svc1", "svc2", "svc3", "svc4", "svc5", "svc6", "pod1", "r1")}
        text = RULES % dict(names, family="ip" if family == 4 else "ip6", ip="ip" if family == 4 else "ip6")
        if family == 6:
            text = text.replace(names["pod1"] + " : 8080", "[%s]:8080" % names["pod1"])
        bench.nft(text)


RIGHT = [
    ("client", "svc1:80", reach("pod1", "r1", src="kept")),
    ("pod2", "svc1:80", reach("pod1", "r1", src="kept")),
    ("rpod", "svc1:80", reach("pod1", "r1", src="kept")),
    ("node", "svc1:80", reach("pod1", "r1", src="kept")),
    ("client", "svc2:80", reach("pod1", "r1", src="node")),
    ("node", "svc2:80", reach("pod1", "r1", src="node")),
    ("pod3", "svc6:80", reach("pod1", src="kept")),
    ("client", "svc3:80", REFUSED), ("pod2", "svc3:80", REFUSED), ("node", "svc3:80", REFUSED),
    ("host", "svc3:80", REFUSED),
    ("client", "svc5:80", DROPPED), ("pod1", "svc5:80", DROPPED), ("node", "svc5:80", DROPPED),
    ("client", "svc6:81", UNTOUCHED), ("client", "lb9:80", UNTOUCHED), ("pod2", "lb9:80", UNTOUCHED),
    ("client", "node:30080", UNTOUCHED), ("host", "loopback:30080", UNTOUCHED), ("client", "r3:8080", UNTOUCHED),
]

WRONG = [
    ("an endpoint is never reached", "client", "svc6:80", reach("pod1", "r1")),
    ("an endpoint too many", "client", "svc1:80", reach("pod1")),
    ("masqueraded, not kept", "client", "svc2:80", reach("pod1", "r1", src="kept")),
    ("kept, not masqueraded", "client", "svc1:80", reach("pod1", "r1", src="node")),
    ("a node's own source kept", "node", "svc1:80", reach("pod1", "r1", src="node")),
    ("dropped, not refused", "client", "svc5:80", REFUSED),
    ("refused, not dropped", "client", "svc3:80", DROPPED),
    ("reached, not dropped", "client", "svc1:80", DROPPED),
    ("translated, not untouched", "client", "svc1:80", UNTOUCHED),
    ("untouched, not translated", "client", "svc6:81", reach("pod1")),
    ("untouched, not refused", "client", "svc6:81", REFUSED),
]


@case("each verdict is recognised", "", both_families, both_protos)
def recognised(b, family, proto):
    b.in_node("nft", "flush", "ruleset")
    rules(b)
    judges = [Judge(b, Row("", "", s, d, w), family, proto) for s, d, w in RIGHT]
    probe.run([p for j in judges for p in j.probes])
    for j in judges:
        j.judge()


@case("a wrong verdict is not taken for right", "", both_families, both_protos)
def not_fooled(b, family, proto):
    judges = [(name, Judge(b, Row("", "", s, d, w, count=28), family, proto)) for name, s, d, w in WRONG]
    made = [p for _, j in judges for p in j.probes]
    for p in made:
        p.timeout = min(p.timeout, SILENCE)
    probe.run(made)
    for name, j in judges:
        try:
            j.judge()
        except Failure:
            continue
        b.fail(name, "a failure", "none")


@case("TCP refused by an ICMP error is told from RST", "", both_families)
def icmp_for_tcp(b, family):
    try:
        b.expect("client", "svc4:80", family, "tcp", REFUSED)
    except Failure as e:
        b.true("the ICMP error is named", "port" in str(e), str(e))
    else:
        b.fail("REJECT by ICMP", "a failure", "none")


@case("SCTP packets arrive translated, with a right checksum", "", both_families)
def sctp(b, family):
    w = b.world.name
    with packet.Sniffer(w["pod1"], w["client"]) as sniffer:
        packet.send_sctp(w["client"], family, addr("client", family), 5555, addr("svc6", family), 80)
        got = sniffer.collect(lambda ns, p: p.proto == packet.SCTP and ns == w["pod1"], 2)
        b.true("arrives", got, "an SCTP packet in pod1")
        b.equal("where", (addr("client", family), 5555, addr("pod1", family), 8080),
                (got[1].src, got[1].sport, got[1].dst, got[1].dport))
        b.true("checksum", packet.sctp_checksum_right(got[1].payload))
        packet.send_sctp(w["client"], family, addr("client", family), 5556, addr("svc3", family), 80)
        got = sniffer.collect(lambda ns, p: p.inner and p.inner.sport == 5556, 2)
        b.true("refused", got, "an ICMP error")
        b.equal("error", (3, 3) if family == 4 else (1, 4), (got[1].type, got[1].code))


@case("the connect tool counts what it reaches", "", both_families)
def connect_tool(b, family):
    for flags in (("-n", 400), ("-n", 400, "-u", "-P", 7)):
        tally, _ = b.connect_tool("client", "svc1:80", family, *flags)
        b.equal("answers", {"pod1 " + join(addr("pod1", family), 8080), "remote " + join(addr("r1", family), 8080)},
                set(tally))
        b.equal("count", 400, sum(tally.values()))
    b.equal("refused", {"refused": 5}, b.connect_tool("client", "svc3:80", family, "-n", 5)[0])
    b.equal("silent", {"timeout": 5}, b.connect_tool("client", "svc5:80", family, "-n", 5, "-t", 300)[0])
