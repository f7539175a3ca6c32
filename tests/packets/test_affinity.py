"""Session affinity: who remembers what, for how long, and what makes it forget."""
import collections
import json

from lib.case import *

_case = case


def case(name, ids, families=(None,), protos=(None,)):  # noqa: F811
    """Every case begins with nobody remembered."""
    def add(function):
        def fresh(bench, *args):
            bench.program.cleanup()
            function(bench, *args)
        return _case(name, ids, families, protos)(fresh)
    return add


CLIENTS = ["many%d" % i for i in range(1, 25)]
FOUR = ["pod1", "pod2", "r1", "r2"]


def sticky(endpoints=FOUR, seconds=600, n=11, **more):
    return both("web", n, endpoints, affinity=seconds, kind="LoadBalancer", lb=["lb%d" % n],
                external=["ext%d" % n], nodeport=30300 + n, **more)


def ask(b, vip, family, proto, clients=CLIENTS, count=1):
    """{client: set of endpoints reached}; one connection after the other per client, all clients at once."""
    out = collections.defaultdict(set)
    for _ in range(count):
        made = [(c, b.make(c, vip, family, proto)) for c in clients]
        probe.run([p for _, p in made])
        for c, p in made:
            b.equal("%s to %s" % (c, vip), "reached", p.result.kind)
            out[c].add(p.result.local)
    return dict(out)


def same(b, what, want, got):
    b.equal(what, {c: sorted(e) for c, e in want.items()}, {c: sorted(e) for c, e in got.items()})


def moved(first, second):
    return [c for c in first if first[c] != second[c]]


def entries(b, family, word="affinity"):
    """{map: {client: [endpoint, port]}} of the maps of port 80; those of other tests may still lie idle."""
    out = json.loads(b.in_node("nft", "-j", "list", "maps", "ip" if family == 4 else "ip6"))
    found = {}
    for item in out["nftables"]:
        m = item.get("map")
        if not m or not m["name"].startswith(word) or not m["name"].endswith("80"):
            continue
        found[m["name"]] = {}
        for key, value in m.get("elem", ()):
            key = key["elem"]["val"] if isinstance(key, dict) else key
            found[m["name"]][key] = value["concat"] if isinstance(value, dict) else value
    return found


@case("a client keeps its endpoint, all of them are used", "AFF-1 SEL-8", both_families, both_protos)
def keeps(b, family, proto):
    b.once(sticky())
    got = ask(b, "svc11:80", family, proto, count=5)
    b.equal("clients with several endpoints", [], [c for c, e in got.items() if len(e) > 1])
    b.equal("endpoints used", {join(addr(e, family), 8080) for e in FOUR}, set().union(*got.values()))


@case("all VIPs with the same list share the memory, from pods and host processes as well", "AFF-1",
      both_families, both_protos)
def shared(b, family, proto):
    b.once(sticky())
    first = ask(b, "svc11:80", family, proto)
    for vip in ("lb11:80", "ext11:80", "node:30311"):
        same(b, vip, first, ask(b, vip, family, proto))
    for source in ("pod3", "node"):
        got = ask(b, "svc11:80", family, proto, [source], 6)
        b.equal(source + " keeps its endpoint", 1, len(got[source]))


@case("ports are remembered apart", "AFF-1", both_families, both_protos)
def apart(b, family, proto):
    b.once([service("web", 11, ports=(80, 81), affinity=600)] + slices("web", FOUR, ports=(80, 81)))
    first, second = ask(b, "svc11:80", family, proto), ask(b, "svc11:81", family, proto)
    other = ask(b, "svc11:80", family, "udp" if proto == "tcp" else "tcp")
    b.true("port 81 drew for itself", moved(first, second))
    b.true("the other protocol drew for itself", moved(first, other))
    same(b, "port 80 afterwards", first, ask(b, "svc11:80", family, proto))
    same(b, "port 81 afterwards", second, ask(b, "svc11:81", family, proto))


@case("the source before masquerading is what counts", "AFF-1", both_families, both_protos)
def before_masquerade(b, family, proto):
    b.once(sticky(), *DETECT, "--masquerade-all")
    got = ask(b, "svc11:80", family, proto, count=3)
    b.equal("endpoints used", 4, len(set().union(*got.values())))
    b.equal("clients with several endpoints", [], [c for c, e in got.items() if len(e) > 1])


@case("the local list has a memory of its own", "AFF-1 AFF-8 POL-2", both_families, both_protos)
def lists(b, family, proto):
    b.once(sticky(["pod1", "pod2", "r1", "r2"], etp="Local"))
    local = ask(b, "lb11:80", family, proto, count=3)
    b.equal("clients with several endpoints", [], [c for c, e in local.items() if len(e) > 1])
    b.equal("endpoints used", {join(addr(e, family), 8080) for e in ("pod1", "pod2")}, set().union(*local.values()))
    cluster = ask(b, "svc11:80", family, proto)
    b.true("remote endpoints are used through the ClusterIP", set().union(*cluster.values()) -
           set().union(*local.values()))
    same(b, "load balancer address afterwards", local, ask(b, "lb11:80", family, proto))
    same(b, "ClusterIP afterwards", cluster, ask(b, "svc11:80", family, proto))
    held = [name for name, e in entries(b, family).items() if addr(CLIENTS[0], family) in e]
    b.equal("maps that hold one client (one per list and protocol)", 2, len([n for n in held if proto in n.lower()]))


@case("internal policy Local", "AFF-1 POL-1", both_families, both_protos)
def internal_local(b, family, proto):
    b.once(sticky(["pod1", "pod2", "r1"], itp="Local"))
    got = ask(b, "svc11:80", family, proto, count=4)
    b.equal("endpoints used", {join(addr(e, family), 8080) for e in ("pod1", "pod2")}, set().union(*got.values()))
    b.equal("clients with several endpoints", [], [c for c, e in got.items() if len(e) > 1])


@case("the timeout runs from the last new connection", "AFF-2 AFF-3", both_families, both_protos)
def timeout(b, family, proto):
    b.once(sticky(seconds=2))
    first = ask(b, "svc11:80", family, proto)
    for _ in range(3):
        time.sleep(1.3)
        same(b, "renewed by a new connection", first, ask(b, "svc11:80", family, proto))
    time.sleep(2.6)
    b.true("some client draws afresh after the timeout", moved(first, ask(b, "svc11:80", family, proto)))


@case("packets of a connection do not restart the clock", "AFF-3", both_families)
def packets_do_not(b, family):
    b.once(sticky(seconds=2))
    open_ones = [b.connection(c, "svc11:80", family) for c in CLIENTS]
    first = {c: {o.first.split()[1]} for c, o in zip(CLIENTS, open_ones)}
    for _ in range(6):
        time.sleep(0.45)
        for o in open_ones:
            b.equal("the connection goes on", o.first, o.ask())
    b.true("some client draws afresh", moved(first, ask(b, "svc11:80", family, "tcp")))
    for o in open_ones:
        o.close()


@case("default timeout", "AFF-2", both_families)
def default_timeout(b, family):
    objects = sticky()
    objects[0] = changed(objects[0], "spec", "sessionAffinityConfig", value=None)
    b.once(objects)
    ask(b, "svc11:80", family, "tcp", CLIENTS[:1])
    text = b.in_node("nft", "list", "table", "ip" if family == 4 else "ip6", "vipmap")
    b.true("3h in the ruleset", "timeout 3h" in text, "timeout 3h")


@case("an endpoint goes: its clients move, the others stay, its entries are gone", "AFF-5 AFF-6", both_families,
      both_protos)
def goes(b, family, proto):
    b.start(sticky())
    first = ask(b, "svc11:80", family, proto)
    gone = join(addr("r1", family), 8080)
    b.apply(sticky(["pod1", "pod2", "r2"]))
    b.until("entries that point to it", [], lambda: [c for m in entries(b, family).values() for c, e in m.items()
                                                     if e[0] == addr("r1", family)])
    second = ask(b, "svc11:80", family, proto)
    b.equal("clients that moved", sorted(c for c in first if gone in first[c]), sorted(moved(first, second)))
    b.equal("clients at the endpoint that went", [], [c for c in second if gone in second[c]])
    b.apply(sticky())
    third = ask(b, "svc11:80", family, proto)
    same(b, "it comes back, nobody returns to it", second, third)


@case("an endpoint goes while nobody runs", "AFF-5 RUN-2", both_families)
def goes_while_stopped(b, family):
    b.start(sticky())
    first = ask(b, "svc11:80", family, "tcp")
    b.stop()
    b.start(sticky(["pod1", "pod2", "r2"]))
    gone = join(addr("r1", family), 8080)
    second = ask(b, "svc11:80", family, "tcp")
    b.equal("clients that moved", sorted(c for c in first if gone in first[c]), sorted(moved(first, second)))
    b.apply(sticky())
    same(b, "it comes back, nobody returns to it", second, ask(b, "svc11:80", family, "tcp"))


@case("an endpoint leaves one list but not the other", "AFF-4 AFF-8", both_families, both_protos)
def one_list(b, family, proto):
    def objects():
        return sticky([Ep("pod1", zones=("z2",)), Ep("pod2", zones=("z1",)), Ep("r1", zones=("z1",)),
                       Ep("r2", zones=("z1",))], etp="Local")
    b.program.start([node(), service_cidr()] + objects(), *DETECT)
    first, local = ask(b, "svc11:80", family, proto), ask(b, "lb11:80", family, proto)
    pod1 = join(addr("pod1", family), 8080)
    b.true("somebody is at pod1", [c for c in first if pod1 in first[c]])
    b.program.apply([node(zone="z1"), service_cidr()] + objects())
    second = ask(b, "svc11:80", family, proto)
    b.equal("clients that moved", sorted(c for c in first if pod1 in first[c]), sorted(moved(first, second)))
    same(b, "the local list", local, ask(b, "lb11:80", family, proto))


@case("other changes keep the memory", "AFF-6", both_families, both_protos)
def other_changes(b, family, proto):
    b.start(sticky())
    first = ask(b, "svc11:80", family, proto)
    b.apply(sticky(FOUR + ["r3", "r4"]) + both("other", 12, ["pod1"]))
    same(b, "more endpoints", first, ask(b, "svc11:80", family, proto))
    b.apply(sticky(list(reversed(FOUR))))
    same(b, "fewer again, in another order", first, ask(b, "svc11:80", family, proto))
    changed_labels = sticky()
    changed_labels[0]["metadata"]["labels"] = {"a": "b"}
    b.apply(changed_labels)
    same(b, "a label", first, ask(b, "svc11:80", family, proto))
    b.apply(sticky([terminating("pod1"), "pod2", "r1", "r2"]) + both("other", 12, ["pod1"]))
    b.apply(sticky())
    left = [c for c in first if join(addr("pod1", family), 8080) not in first[c]]
    got = ask(b, "svc11:80", family, proto)
    same(b, "another one went and came", {c: first[c] for c in left}, {c: got[c] for c in left})


@case("a restart keeps the memory", "AFF-6 RUN-2 RUN-8", both_families, both_protos)
def restart(b, family, proto):
    import signal
    b.start(sticky())
    first = ask(b, "svc11:80", family, proto)
    b.stop()
    same(b, "nobody runs", first, ask(b, "svc11:80", family, proto))
    b.start(sticky())
    same(b, "after a restart", first, ask(b, "svc11:80", family, proto))
    b.stop(signal.SIGKILL)
    b.start(sticky(FOUR + ["r3"]))
    same(b, "after SIGKILL, a start and one endpoint more", first, ask(b, "svc11:80", family, proto))


@case("turned off it ends at once, turned on it begins", "AFF-6", both_families, both_protos)
def on_off(b, family, proto):
    b.start(both("web", 11, FOUR))
    b.expect("many1", "svc11:80", family, proto, reach(*FOUR))
    b.apply(sticky())
    got = ask(b, "svc11:80", family, proto, count=4)
    b.equal("clients with several endpoints", [], [c for c, e in got.items() if len(e) > 1])
    b.apply(both("web", 11, FOUR))
    b.expect("many1", "svc11:80", family, proto, reach(*FOUR))


@case("a changed timeout holds for later connections", "AFF-7", both_families, both_protos)
def changed_timeout(b, family, proto):
    b.start(sticky(seconds=3600))
    first = ask(b, "svc11:80", family, proto)
    b.apply(sticky(seconds=1))
    same(b, "remembered clients", first, ask(b, "svc11:80", family, proto))
    time.sleep(1.7)
    b.true("some client draws afresh after the new timeout", moved(first, ask(b, "svc11:80", family, proto)))
    b.apply(sticky(seconds=3600))
    second = ask(b, "svc11:80", family, proto)
    time.sleep(1.7)
    same(b, "the longer one again", second, ask(b, "svc11:80", family, proto))


@case("a Service goes and comes back: nobody is remembered", "AFF-5 SVC-12", both_families, both_protos)
def service_back(b, family, proto):
    b.start(sticky())
    first = ask(b, "svc11:80", family, proto)
    b.apply([])
    b.apply(sticky())
    b.true("some client draws afresh", moved(first, ask(b, "svc11:80", family, proto)))


@case("all endpoints go and come back: nobody is remembered", "AFF-5", both_families, both_protos)
def endpoints_back(b, family, proto):
    b.start(sticky())
    first = ask(b, "svc11:80", family, proto)
    b.apply(sticky([]))
    b.apply(sticky())
    b.true("some client draws afresh", moved(first, ask(b, "svc11:80", family, proto)))


@case("sticky Services without endpoints, and with the last one gone", "VER-2 AFF-5", both_families, both_protos)
def none_left(b, family, proto):
    b.start(sticky([]))
    b.expect("client", "svc11:80", family, proto, REFUSED)
    b.apply(sticky(["pod1"]))
    b.expect("client", "svc11:80", family, proto, reach("pod1"))
    b.apply(sticky([]))
    b.program.flush()
    b.expect("client", "svc11:80", family, proto, REFUSED)
    b.apply([])
    b.program.flush()
    b.expect("client", "svc11:80", family, proto, DROPPED)


@case("20,000 clients, an endpoint goes while other Services change", "AFF-5 AFF-6 RUN-4", both_families)
def crowd(b, family):
    """Their map is looked through piece by piece, with transactions in between."""
    def holders():
        return collections.Counter(e[0] for m in entries(b, family).values() for e in m.values())

    b.start(sticky())
    b.connect_tool("crowd", "svc11:80", family, "-n", 20000, "-w", 256, "-a", "-u")
    before = holders()
    b.true("clients of each endpoint: %s" % before, min(before[addr(e, family)] for e in FOUR) > 4000, "over 4000")
    for i in range(8):
        b.apply(sticky(["pod1", "pod2", "r2"]) + both("other%d" % i, 50 + i, FOUR[:1 + i % 4]))
    b.until("endpoints that clients are bound to", sorted(addr(e, family) for e in ("pod1", "pod2", "r2")),
            lambda: sorted(holders()), seconds=20)
    after = holders()
    for e in ("pod1", "pod2", "r2"):
        b.equal("clients of %s" % e, before[addr(e, family)], after[addr(e, family)])
