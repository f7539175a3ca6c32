"""Every endpoint of a list gets its equal share of new flows: chi-square over at least 20,000 of them."""
import math
import random

from lib.case import *

FLOWS = 24000
ENDPOINTS = ["r%d:%d" % (i, port) for port in range(8080, 8084) for i in range(1, 9)]
SEED = seed()


def critical(freedom, z=5.2):
    """Chi-square value that a uniform pick exceeds once in ten million runs (Wilson and Hilferty)."""
    a = 2 / (9 * freedom)
    return freedom * (1 - a + z * math.sqrt(a)) ** 3


def objects():
    out = []
    for n in (2, 3, 7, 32):
        out += both("u%d" % n, n, ENDPOINTS[:n], kind="LoadBalancer", lb=["lb%d" % n], nodeport=30100 + n)
    out += both("local", 40, [Ep("r%d" % i, port=8080, node=THIS_NODE) for i in range(1, 6)] + ["pod1"],
                kind="LoadBalancer", lb=["lb40"], etp="Local")
    out += both("sticky", 41, ENDPOINTS[:7], affinity=600)
    return out


def chi(b, vip, family, proto, n, source="client", flows=FLOWS, more=()):
    flags = ["-n", flows, "-w", 256, "-P", SEED, *more] + (["-u"] if proto == "udp" else [])
    tally, _ = b.connect_tool(source, vip, family, *flags)
    bad = {k: v for k, v in tally.items() if not k.startswith(("remote ", "pod1 "))}
    total = sum(tally.values()) - sum(bad.values())
    # a datagram may be lost on a busy machine, and a source port may be taken
    b.true("flows that failed: %s" % bad, sum(bad.values()) <= (flows // 200 if proto == "udp" else 0))
    b.true("flows: %d" % total, total >= 20000 - flows // 200, "at least 20000")
    b.equal("endpoints reached", n, len(tally) - len(bad))
    mean = total / n
    got = sum((v - mean) ** 2 / mean for k, v in tally.items() if k not in bad)
    b.true("seed %d, %d flows over %d endpoints: chi-square %.1f" % (SEED, total, n, got), got < critical(n - 1),
           "less than %.1f" % critical(n - 1))


def add(name, ids, vip, n, family, proto, source="client"):
    @case("uniform: %s, %d endpoints, seed %d" % (name, n, SEED), ids, (family,), (proto,))
    def check(b, f, p):
        b.once(objects())
        chi(b, vip, f, p, n, source)


for _n, _family, _proto in ((2, 4, "udp"), (3, 6, "udp"), (7, 4, "tcp"), (32, 4, "udp"), (32, 6, "udp")):
    add("ClusterIP", "SEL-8 VER-4", "svc%d:80" % _n, _n, _family, _proto)
add("load balancer address", "SEL-8", "lb7:80", 7, 6, "tcp")
add("node port", "SEL-8", "node:30103", 3, 4, "udp")
add("local list", "SEL-8 SEL-4", "lb40:80", 6, 4, "udp")
add("host process", "SEL-8 VER-8", "svc7:80", 7, 4, "udp", source="node")


@case("uniform: session affinity, 24,000 clients, 7 endpoints, seed %d" % SEED, "SEL-8 AFF-1 AFF-8", both_families)
def sticky(b, family):
    """Who comes first is spread evenly; who comes back is not spread at all."""
    b.once(objects())
    chi(b, "svc41:80", family, "udp", 7, source="crowd", more=("-a",))
    again = [b.connect_tool("crowd", "svc41:80", family, "-n", 300, "-a")[0] for _ in range(2)]
    b.equal("300 of them by TCP, twice", again[0], again[1])


@case("uniform while the list changes: what stays keeps its share, seed %d" % SEED, "SEL-8 RUN-2", (4,))
def after_changes(b, family):
    """A list that has been cut and grown in random order is still drawn from uniformly."""
    rng = random.Random(SEED)
    eps = ENDPOINTS[:9]
    b.start(both("web", 11, eps))
    for _ in range(25):
        rng.shuffle(eps)
        b.apply(both("web", 11, eps[:rng.randrange(1, 10)]))
    rng.shuffle(eps)
    b.apply(both("web", 11, eps[:7]))
    chi(b, "svc11:80", family, "udp", 7)
