"""Random Services, endpoints and policies, changed at random; packets from everywhere to everything must fare as a
plain model of the semantics says (lib/model.py)."""
import collections
import ipaddress
import json
import random

from lib.case import *
from lib.model import Model

SEED = seed()
POOL = ["pod1", "pod2", "pod3", "r1", "r2", "r3", "r1:8081", "pod1:8081", "r2:8082"]
SOURCES = ("client", "client2", "client3", "pod1", "pod2", "rpod", "node", "node2")
RANGES = ["203.0.113.0/25", "203.0.113.128/25", "192.168.1.0/24", "10.180.0.0/16", "2001:db8:113::/49",
          "2001:db8:113:8000::/49", "fd00:1::/64", "fd00:180::/48", "203.0.113.7/32", "0.0.0.0/0", "junk"]


def endpoint(rng, text):
    name, _, port = text.partition(":")
    more = {"port": int(port)} if port else {}
    if rng.random() < 0.35:
        more.update(ready=rng.choice([True, False, None]), serving=rng.choice([True, False, None]),
                    terminating=rng.choice([True, False, None]))
    if rng.random() < 0.3:
        more["zones"] = rng.sample(["z1", "z2"], rng.randrange(1, 3))
    if rng.random() < 0.15:
        more["nodes"] = rng.sample([THIS_NODE, OTHER_NODE], rng.randrange(1, 3))
    # one address is on one node, whoever names it
    if name in ("r3", "pod3"):
        more["node"] = THIS_NODE if name == "r3" else None
    return Ep(name, **more)


def random_service(rng, i):
    families = rng.choice([(4, 6), (4, 6), (4, 6), (4,), (6,), (6, 4)])
    ports = rng.choice([(80,), (80,), (80, 81), (443,)])
    protos = rng.choice([("TCP", "UDP"), ("TCP",), ("UDP",)])
    more = {"kind": rng.choice(["ClusterIP", "NodePort", "LoadBalancer"]), "families": families, "ports": ports,
            "protos": protos, "itp": rng.choice([None, "Cluster", "Local"]),
            "etp": rng.choice([None, "Cluster", "Local", "Local"]), "created": "20%02d-01-01T00:00:00Z" % rng.randrange(10, 20)}
    if rng.random() < 0.5:
        more["nodeport"] = 30080 + 2 * rng.randrange(0, 8)
    if rng.random() < 0.5:
        more["lb"] = ["lb%d" % rng.randrange(1, 12)]
        if rng.random() < 0.5:
            more["ranges"] = rng.sample(RANGES, rng.randrange(1, 4))
        if rng.random() < 0.15:
            more["lb_mode"] = "Proxy"
    if rng.random() < 0.3:
        more["external"] = ["ext%d" % rng.randrange(1, 8)]
    if rng.random() < 0.2:
        more["affinity"] = rng.randrange(1, 4000)
    name = "s%d" % i
    shared = {k: more[k] for k in ("ports", "protos")}
    out = [service(name, 20 + i, **more)]
    pool = rng.sample(POOL, len(POOL))  # which of two entries for one endpoint wins is partly open (EPS-8)
    for part in range(rng.choice([0, 1, 1, 1, 2])):
        eps = [endpoint(rng, pool.pop()) for _ in range(rng.randrange(0, 4))]
        out += slices(name, eps, suffix="-%d" % part, families=rng.choice([(4, 6), (4, 6), (4,), (6,)]), **shared)
    return name, out


def flatten(services, zone):
    out = [node(zone=zone), service_cidr()]
    for objects in services.values():
        out += objects
    return out


def targets(rng, services):
    """Every VIP there is or was, and what surrounds them."""
    out = ["free1:80", "lb1:83", "ext9:80", "node:79", "node:30090", "node2:30080", "r1:8080"]
    out += ["svc%d:%d" % (20 + i, p) for i in range(len(services)) for p in (80, 81)]
    out += ["lb%d:%d" % (i, p) for i in range(1, 12) for p in (80, 81, 443)]
    out += ["ext%d:%d" % (i, p) for i in range(1, 8) for p in (80, 443)]
    out += ["node:%d" % (30080 + i) for i in range(0, 17)]
    return rng.sample(out, 45)


def want_for(verdict, family):
    kind = verdict[0]
    if kind != "reach":
        return {"refuse": REFUSED, "drop": DROPPED, "pass": UNTOUCHED}[kind], None
    return Want("reach", []), verdict[1]


class RandomJudge(Judge):
    """A reached endpoint must be one of the model's, and its masquerading what the model says for that endpoint."""

    def __init__(self, bench, row, family, proto, keys, entry):
        super().__init__(bench, row, family, proto)
        self.keys, self.entry = keys, entry
        self.sticky = bool(entry) and "sessionAffinity" in entry[1].service["spec"]

    def complaint(self, p):
        if self.keys is None:
            return super().complaint(p)
        r = p.result
        if r.kind != "reached":
            return str(r)
        expected = {join(*k): masquerade for k, masquerade in self.keys.items()}
        if r.local not in expected:
            return str(r)
        seen = r.peer.rpartition(":")[0].strip("[]")
        if expected[r.local] and seen not in self.bench.world.node_addresses[self.family]:
            return "%s saw source %s instead of the node's" % (r, seen)
        if expected[r.local] == self.kept(p):
            return "%s, source %s" % (r, "kept" if self.kept(p) else "rewritten")
        return None

    def judge(self):
        super().judge()
        if self.keys is None:
            return
        reached = {p.result.local for p in self.probes}
        missing = {join(*k) for k in self.keys} - reached
        if missing and not self.sticky:
            tally = collections.Counter(str(p.result) for p in self.probes)
            raise Failure("%s -> %s: never reached: %s, but %s" % (
                self.row.source, self.destination(), " ".join(missing),
                ", ".join("%d x %s" % (n, r) for r, n in tally.items())))


def compare_explanation(b, judge, flags, title):
    """`vipmap explain` says the same as the model."""
    target, _, port = judge.row.destination.rpartition(":")
    status, text, err = b.program.run(*b.program.argv(flags)[1:], "explain", addr(judge.row.source, judge.family),
                                      judge.proto, addr(target, judge.family), port)
    words = {"refuse": "refused", "drop": "dropped", "pass": "passed", "reach": "DNAT"}
    verdict = [line.split()[1] for line in text.splitlines() if line.startswith("verdict")]
    endpoints = sorted(line.split()[0] for line in text.splitlines() if " % " in line)
    kept = sorted(line.split()[0] for line in text.splitlines() if "source kept: both are in noMasq" in line)
    want = [words[judge.row.want.kind].rstrip(":")], sorted(join(*k) for k in judge.keys or ()), judge.kept_by_ranges
    got = [v.rstrip(":") for v in verdict], endpoints, kept
    if want != got:
        raise Failure("%s: explain %s %s %s: want %s, got %s: %s%s" % (
            title, judge.row.source, judge.proto, judge.row.destination, want, got, text, err[-300:]))


def check(b, rng, objects, pods, flags, title, kept=()):
    world = b.world

    def models_with(ranges):
        return {f: Model(objects, f, None if pods is None else [n for n in pods if n.version == f],
                         "--masquerade-all" in flags, {addr("node", f)}, world.node_addresses[f], ranges)
                for f in both_families}

    models, without_ranges = models_with(kept), models_with(())
    names = [o["metadata"]["name"] for o in objects if o["kind"] == "Service"]
    judges = []
    for destination in targets(rng, names):
        host, _, port = destination.partition(":")
        family, proto = rng.choice(both_families), rng.choice(both_protos)
        source = rng.choice(SOURCES)
        model = models[family]
        args = (addr(host, family), proto, int(port))
        verdict = model.expect(addr(source, family), *args)
        want, keys = want_for(verdict, family)
        _, otherwise = want_for(without_ranges[family].expect(addr(source, family), *args), family)
        entry = model.vips.get(args) or (model.node_ports.get(args[1:]) if args[0] in model.nodeport_addresses else None)
        count = min(probes_needed(len(keys)), 60) if keys else 2
        if want is UNTOUCHED and host in ("node", "node2", "loopback") and int(port) not in (79, *range(30080, 30100)):
            continue
        if want is UNTOUCHED and source in ("node", "node2") and host == "r1":
            continue
        row = Row(title, "", source, destination, want, count=count)
        judges.append(RandomJudge(b, row, family, proto, keys, entry))
        judges[-1].kept_by_ranges = sorted(join(*k) for k in keys or () if otherwise[k] and not keys[k])
    probe.run([p for j in judges for p in j.probes])
    for j in rng.sample(judges, min(4, len(judges))):
        compare_explanation(b, j, flags, title)
    for j in judges:
        try:
            j.judge()
        except Failure as e:
            who = j.entry[1].service if j.entry else None
            involved = [o for o in objects if who and (o is who or o["metadata"].get("labels", {}).get(
                "kubernetes.io/service-name") == who["metadata"]["name"])]
            raise Failure("%s, IPv%d %s: %s\n%s" % (title, j.family, j.proto, e,
                                                    "\n".join(json.dumps(o) for o in involved)))


def rounds(b, live, flags, pods, count, start, kept=()):
    rng = random.Random(start)
    services = dict(random_service(rng, i) for i in range(14))
    zone = None
    for i in range(count):
        objects = flatten(services, zone)
        title = "seed %d, round %d" % (SEED, i)
        if not live:
            b.program.once(objects, *flags)
        elif i == 0:
            b.program.start(objects, *flags)
        else:
            b.program.apply(objects)
        b.program.flush()
        check(b, rng, objects, pods, flags, title, kept)
        for _ in range(rng.randrange(1, 8)):
            name, new = random_service(rng, rng.randrange(14))
            services[name] = new if rng.random() < 0.85 else []
        zone = rng.choice([None, "z1", "z2", zone, zone])


PODS = [ipaddress.ip_network(c) for c in topology.CLUSTER_CIDR.split(",")]


@case("random objects, once each", "SVC-5 SVC-7 SVC-11 SEL-1 POL-2 VER-4 VER-14 LB-4 MASQ-2 MASQ-4 MASQ-5")
def random_once(b):
    rounds(b, False, DETECT, PODS, 12, SEED)


@case("random changes while it runs", "SVC-12 RUN-6")
def random_live(b):
    rounds(b, True, DETECT, PODS, 25, SEED + 1)


@case("random objects without local detection, masquerading all", "MASQ-1 POL-6")
def random_plain(b):
    rounds(b, True, ("--masquerade-all",), None, 6, SEED + 2)
    b.stop()
    rounds(b, True, (), None, 6, SEED + 3)


KEPT = ["192.168.1.0/24", "10.180.0.0/24", "10.180.0.12/32", "203.0.113.0/25", "192.168.1.5/32", "10.180.1.21/32",
        "10.180.1.0/24", "fd00:1::/64", "fd00:180::/64", "fd00:180:0:1::/64", "2001:db8:113::/49", "fd00:180::11/128"]


@case("random objects and ranges whose sources are kept", "BEY-3 MASQ-1 MASQ-4 MASQ-5")
def random_kept(b):
    rng = random.Random(SEED + 4)
    for i in range(4):
        ranges = rng.sample(KEPT, rng.randrange(3, 10))
        path = b.program.file("vipmap.yaml", "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n"
                              "noMasqueradeCIDRs: %s\n" % json.dumps(ranges))
        flags = rng.choice([DETECT, DETECT, DETECT + ("--masquerade-all",)]) + ("--vipmap-config", path)
        b.stop()
        rounds(b, i % 2 == 1, flags, PODS, 4, SEED + 5 + i, [ipaddress.ip_network(r) for r in ranges])
