"""While it runs: established connections survive whatever happens, and new ones never fail."""
import os
import random
import signal
import socket
import subprocess
import tempfile

from lib.case import *
from lib.traffic import Traffic, wrong

SEED = seed()


def web(endpoints, **more):
    return both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], external=["ext11"], nodeport=30080, **more)


VIPS = ("svc11:80", "lb11:80", "ext11:80", "node:30080")
SOURCES = ("client", "pod2", "node", "rpod", "pod1")


def open_all(b, family, vips=VIPS, sources=SOURCES):
    return [b.connection(s, v, family) for s in sources for v in vips]


def alive(b, when, connections):
    got = [(c.first, c.ask()) for c in connections]
    b.equal("connections that are not what they were " + when, [], [(was, now) for was, now in got if was != now])


@case("established connections survive every kind of change", "VER-15 VER-19 RUN-2", both_families)
def changes(b, family):
    b.start(web(["pod1", "r1"]))
    held = open_all(b, family)
    sticky_other = both("other", 12, ["pod1"], affinity=100)
    for name, objects in (
            ("the same again", web(["pod1", "r1"])),
            ("an endpoint more", web(["pod1", "r1", "r2"])),
            ("their endpoints gone", web(["r2"])),
            ("session affinity", web(["pod1", "r1"], affinity=100)),
            ("no session affinity", web(["pod1", "r1"])),
            ("policies", web(["r2"], itp="Local", etp="Local")),
            ("source ranges", web(["pod1"], ranges=["10.99.0.0/16", "fd99::/64"])),
            ("other Services", web(["pod1"]) + sticky_other),
            ("no endpoints", web([])),
            ("no Service", []),
            ("back again", web(["pod1", "r1"]))):
        b.apply(objects)
        alive(b, "after " + name, held)
    for c in held:
        c.close()


@case("established connections survive a restart and SIGKILL", "RUN-8 RUN-2 VER-15", both_families)
def restarts(b, family):
    b.start(web(["pod1", "r1"]))
    held = open_all(b, family)
    b.equal("exit status after SIGTERM", 0, b.stop(signal.SIGTERM))
    alive(b, "after SIGTERM", held)
    for vip in VIPS:
        b.expect("client", vip, family, "tcp", reach("pod1", "r1"))
    b.start(web(["pod1", "r1"]))
    alive(b, "after a start", held)
    b.equal("exit status after SIGINT", 0, b.stop(signal.SIGINT))
    alive(b, "after SIGINT", held)
    b.start(web(["r1", "r2"]))
    b.stop(signal.SIGKILL)
    alive(b, "after SIGKILL", held)
    b.expect("client", "svc11:80", family, "tcp", reach("r1", "r2"))
    b.start(web(["pod1", "r1"]), *DETECT, "--masquerade-all")
    alive(b, "after a start with other settings", held)
    b.expect("pod2", "svc11:80", family, "tcp", reach("pod1", "r1", src="node"))
    for c in held:
        c.close()


@case("a restart with nothing changed changes nothing", "RUN-2 RUN-6", both_families)
def unchanged(b, family):
    objects = web(["pod1", "r1"]) + both("sticky", 12, ["pod1", "r1"], affinity=600) + both("none", 13, [])
    generation = lambda: b.in_node("nft", "-a", "list", "ruleset")
    b.once(objects)
    before = generation()
    b.once(objects)
    b.equal("the ruleset, handles included, after --once again", before, generation())


POOL = ["pod1", "pod2", "r1", "r2", "r3", "r1:8081", "r2:8081", "pod1:8081"]
OTHERS = ["r5", "r6", "r7", "r8", "pod3:8082"]


def traffic_case(name, ids, more, flows, seconds=9, seed_offset=0):
    """Random lists with one endpoint that always stays, while connections are made without pause: none fails, none
    meets an endpoint that is not the Service's."""
    @case("%s, seed %d" % (name, SEED), ids)
    def run(b):
        rng = random.Random(SEED + seed_offset)

        def objects():
            mine = ["r4"] + [e for e in POOL if rng.random() < 0.5]
            others = [e for e in OTHERS if rng.random() < 0.5]
            rng.shuffle(mine)
            return (web(mine, **more)
                    + both("other", 12, others, kind="LoadBalancer", lb=["lb12"], nodeport=30081,
                           affinity=rng.choice([None, 5])))

        b.start(objects())
        running = [(f, Traffic(b, source, vip, f, seconds, *flags)) for source, vip, f, flags in flows]
        count = 0
        while running[0][1].running():
            b.program.write(base() + objects() + b.program.marker())
            count += 1
            time.sleep(rng.random() * 0.05)
        for f, t in running:
            tally = t.tally()
            b.equal("answers that should not be, %d changes, of %d connections" % (count, sum(tally.values())), {},
                    wrong(tally, f, ["r4"] + POOL))
            b.true("connections: %d" % sum(tally.values()), sum(tally.values()) > 500)
        b.true("changes: %d" % count, count >= 100, "at least 100 in %d s" % seconds)
        b.apply(web(["r4"]))
        b.expect("client", "svc11:80", 4, "tcp", reach("r4"))


traffic_case("TCP while endpoints change", "RUN-2 VER-4", {},
             [("client", "svc11:80", 4, ()), ("client", "lb11:80", 6, ()), ("pod3", "node:30080", 4, ())])
traffic_case("TCP while endpoints of a sticky Service change", "RUN-2 AFF-4", {"affinity": 2},
             [("client", "svc11:80", 4, ()), ("client", "lb11:80", 6, ())], seconds=6, seed_offset=1)


@case("a removed endpoint is not met any more, seed %d" % SEED, "VER-4 RUN-2 SVC-12", both_families, both_protos)
def removed(b, family, proto):
    """After each of many changes, new connections meet exactly the endpoints in force."""
    rng = random.Random(SEED + 2)
    pool = POOL + ["r4"]
    b.start(web(pool))
    for _ in range(25):
        now = rng.sample(pool, rng.randrange(0, 5))
        b.apply(web(now))
        b.program.flush()  # entries of former flows go a moment later, and a source port may come again
        b.expect("client", rng.choice(VIPS), family, proto, reach(*now) if now else REFUSED)


@case("daemons that come and go under traffic, SIGKILL included, seed %d" % SEED, "RUN-2 RUN-8")
def restarts_under_traffic(b):
    rng = random.Random(SEED + 3)
    b.start(web(["r4", "pod1"]))
    running = [Traffic(b, "client", vip, f, 7) for vip, f in (("svc11:80", 4), ("lb11:80", 6))]
    count = 0
    while running[0].running():
        time.sleep(rng.random() * 0.1)
        b.stop(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        b.start(web(["r4"] + rng.sample(["pod1", "pod2", "r1"], rng.randrange(0, 4))))
        count += 1
    for f, t in zip((4, 6), running):
        tally = t.tally()
        b.equal("answers that should not be, %d restarts, %d connections" % (count, sum(tally.values())), {},
                wrong(tally, f, ["r4", "pod1", "pod2", "r1"]))
    b.true("restarts: %d" % count, count >= 5, "at least 5")


@case("SIGKILL in the middle of a change, seed %d" % SEED, "RUN-2 RUN-4")
def kill_anywhere(b):
    """Wherever it is killed, the next start brings the same end state."""
    rng = random.Random(SEED + 4)
    for _ in range(10):
        eps = rng.sample(POOL, rng.randrange(1, 5))
        many = [o for i in range(20, 60) for o in both("s%d" % i, i, rng.sample(POOL, 2), affinity=rng.choice([None, 9]))]
        b.program.write(base() + web(eps) + many)
        p = subprocess.Popen(b.program.argv(DETECT), stderr=subprocess.DEVNULL, preexec_fn=b.program.enter)
        time.sleep(rng.random() * 0.06)
        p.kill()
        p.wait()
    want = web(["pod1", "r1"])
    b.once(want)
    after = b.kernel_objects(loose=True)
    b.program.cleanup()
    b.once(want)
    fresh = b.kernel_objects(loose=True)
    b.equal("what a table made from nothing has not", [], [o for o in after if o not in fresh])
    b.equal("what only a table made from nothing has", [], [o for o in fresh if o not in after])


@case("objects are in force at once", "RUN-3")
def latency(b):
    b.start(web(["pod1"]))
    took = []
    for i in range(20):
        time.sleep(0.05)
        took.append(b.apply(web(["pod1", "r%d" % (i % 8 + 1)])))
    took.sort()
    b.true("median of 20 changes %.0f ms, slowest %.0f ms (until a connection shows it)" %
           (took[10] * 1000, took[-1] * 1000), took[10] < 0.25, "a median below 250 ms")


CONFIG = """\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.180.0.0/16,fd00:180::/48
conntrack: {maxPerCore: 0}
nftables: {masqueradeAll: %s}
"""


@case("another configuration is applied without a gap, a bad one is not", "CFG-3 MASQ-1 RUN-2", both_families)
def reconfigure(b, family):
    path = b.program.file("config.yaml", CONFIG % "false")
    b.start(web(["pod1", "r1"]), "--config", path)
    b.expect("pod2", "svc11:80", family, "tcp", reach("pod1", "r1", src="kept"))
    held = open_all(b, family)
    running = Traffic(b, "client", "svc11:80", family, 4)
    for text, src in (("true", "node"), ("false", "kept"), ("true", "node"), ("perhaps", "node"), ("false", "kept")):
        b.program.file("config.yaml", CONFIG % text)
        b.program.process.send_signal(signal.SIGHUP)
        b.eventually("pod2", "svc11:80", family, "tcp", reach("pod1", "r1", src=src))
        if text == "perhaps":
            b.until("the bad one is reported", True, lambda: "masqueradeAll" in b.program.log)
            b.expect("pod2", "svc11:80", family, "tcp", reach("pod1", "r1", src=src))
        alive(b, "with masqueradeAll " + text, held)
        time.sleep(0.2)
    b.equal("answers that should not be", {}, wrong(running.tally(), family, ["pod1", "r1"]))


@case("both files of the configuration change at once, and one is bad", "CFG-3")
def both_files(b):
    folder = os.path.join(b.program.folder, "mounted")
    os.mkdir(folder)

    def mount(**files):
        """As kubelet does it with a ConfigMap: all files are others at once."""
        real = tempfile.mkdtemp(dir=folder)
        for name, text in files.items():
            with open(os.path.join(real, name), "w") as f:
                f.write(text)
        os.symlink(real, os.path.join(folder, "new"))
        os.rename(os.path.join(folder, "new"), os.path.join(folder, "data"))

    def complaints():
        return b.program.log.count("configuration stays as it was")

    ours = "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\nanswerPing: %s\n"
    mount(config=CONFIG % "false", ours=ours % "false")
    b.start(web(["pod1"]), "--config", folder + "/data/config", "--vipmap-config", folder + "/data/ours")
    mount(config=CONFIG % "perhaps", ours=ours % "true")
    b.until("the bad one is reported", 1, complaints, 20)
    time.sleep(5)  # it is looked for changes every two seconds
    b.equal("times that it is reported", 1, complaints())
    mount(config=CONFIG % "true", ours=ours % "perhaps")
    b.until("the other bad one is reported", 2, complaints, 20)
    mount(config=CONFIG % "true", ours=ours % "true")
    b.hears("configuration changed: .*masqueradeAll false -> true.*answerPing false -> true", 20)
    b.equal("times that a bad one is reported", 2, complaints())


def health(b, family, port):
    """Status of a health-check node port, asked from outside; None if nobody listens."""
    try:
        with netns.inside(b.world.name["client"]):
            s = socket.create_connection((addr("node", family), port), timeout=2)
        with s:
            s.send(b"GET / HTTP/1.0\r\n\r\n")
            return int(s.makefile("rb").readline().split()[1])
    except ConnectionRefusedError:
        return None


@case("a health-check node port says yes only once packets get through", "HC-5 RUN-12", both_families)
def health_follows(b, family):
    def objects(*eps):
        return both("web", 11, eps, kind="LoadBalancer", lb=["lb11"], nodeport=30080, etp="Local",
                    healthCheckNodePort=31999)
    b.start(objects("r1"))
    b.until("no local endpoint", 503, lambda: health(b, family, 31999))
    for _ in range(8):
        b.program.write(base() + objects("pod1", "r1") + b.program.marker())
        b.until("a local endpoint", 200, lambda: health(b, family, 31999))
        b.expect("client", "lb11:80", family, "tcp", reach("pod1"), count=3)
        b.program.write(base() + objects("r1") + b.program.marker())
        b.until("none again", 503, lambda: health(b, family, 31999))


@case("a bad object changes nothing else", "API-10", both_families)
def bad_object(b, family):
    bad = [
        changed(service("bad1", 71), "spec", "clusterIP", value="300.1.1.1"),
        changed(service("bad2", 72), "spec", "ports", value=[{"port": 700000, "protocol": "TCP"}]),
        changed(service("bad3", 73), "spec", "ports", value="none"),
        {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
         "metadata": {"name": "bad4", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
         "ports": [{"name": "t80", "port": -4, "protocol": "TCP"}], "endpoints": [{"addresses": ["x"]}]},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
    ]
    b.start(web(["pod1", "r1"]))
    b.apply(web(["pod1", "r1"]) + bad)
    for proto in both_protos:
        b.expect("client", "svc11:80", family, proto, reach("pod1", "r1"))
    b.true("the log names them", "bad3" in b.program.log and "bad2" in b.program.log, "bad2 and bad3 in the log")


@case("a broken manifest leaves the last state in force", "RUN-1 API-8", both_families)
def broken_file(b, family):
    b.start(web(["pod1", "r1"]))
    path = os.path.join(b.program.manifests, "objects.json")
    with open(path + ".new", "w") as f:
        f.write('{"apiVersion": "v1", "kind": "List", "items": [')
    os.rename(path + ".new", path)
    time.sleep(0.4)
    b.expect("client", "svc11:80", family, "tcp", reach("pod1", "r1"))
    b.equal("still running", None, b.program.process.poll())
    b.apply(web(["r2"]))
    b.expect("client", "svc11:80", family, "tcp", reach("r2"))


@case("a slice that changes hands", "EPS-10 EPS-11", both_families)
def relabelled(b, family):
    two = [service("one", 21), service("two", 22)]
    mine = slices("one", ["pod1"], suffix="-x")
    moved = [changed(s, "metadata", "labels", value={"kubernetes.io/service-name": "two"}) for s in mine]
    orphan = [changed(s, "metadata", "labels", value={}) for s in mine]
    b.start(two + mine)
    b.expect("client", "svc21:80", family, "tcp", reach("pod1"))
    b.apply(two + moved)
    b.expect("client", "svc21:80", family, "tcp", REFUSED)
    b.expect("client", "svc22:80", family, "tcp", reach("pod1"))
    b.apply(two + orphan)
    b.expect("client", "svc22:80", family, "tcp", REFUSED)


@case("somebody flushes the ruleset", "RUN-5 RUN-7", both_families)
def flushed(b, family):
    b.start(web(["pod1", "r1"]))
    b.in_node("nft", "flush", "ruleset", check=False)
    b.eventually("client", "svc11:80", family, "tcp", reach("pod1", "r1"), seconds=3)
    b.apply(web(["r2"]))
    b.program.flush()
    b.expect("client", "svc11:80", family, "tcp", reach("r2"))


def answers(b, name, port):
    """A process of the node connects: the client has no route to an address that is new."""
    with netns.inside(b.world.name["node"]):
        try:
            socket.create_connection((addr(name, 4), port), timeout=1).close()
            return True
        except OSError:
            return False


@case("a health-check node port that is free later", "HC-7")
def freed(b):
    """No event comes: the other program ends, and that is all."""
    with netns.inside(b.world.name["node"]):
        holder = socket.create_server(("0.0.0.0", 31998))
    with holder:
        b.start(web(["pod1"], etp="Local", healthCheckNodePort=31998))
        b.hears('failed to start healthcheck "default/web" on port 31998')
    b.until("somebody answers", True, lambda: answers(b, "node", 31998), 7)
    b.hears("health-check port 31998 .IPv4. listens now")


@case("health-check node ports that Services exchange", "HC-6 HC-7", both_families)
def exchanged(b, family):
    def objects(one, two):
        return (both("one", 11, ["pod1"], kind="LoadBalancer", lb=["lb11"], etp="Local", healthCheckNodePort=one)
                + both("two", 12, ["r1"], kind="LoadBalancer", lb=["lb12"], etp="Local", healthCheckNodePort=two))
    b.start(objects(31995, 31996))
    for one, two in ((31996, 31995), (31994, 31996), (31996, 31994), (31995, 31996)):
        b.apply(objects(one, two))
        b.until("the one with a local endpoint", 200, lambda: health(b, family, one))
        b.until("the one without", 503, lambda: health(b, family, two))
    b.true("the log", "failed to start healthcheck" not in b.program.log, "no such error: " + b.program.log[-500:])


@case("a node address that comes later than the Node object", "NODE-4 HC-7")
def later_address(b):
    """The Node's address is on no interface at first, and nothing but the address comes."""
    late = "192.168.1.77"
    objects = web(["pod1"], etp="Local", healthCheckNodePort=31997)
    b.program.start([node((late, "fd00:1::77")), service_cidr()] + objects, *DETECT)
    b.hears('failed to start healthcheck "default/web" on port 31997')
    with b.world.node_has("lo", late):
        b.until("somebody answers", True, lambda: answers(b, late, 31997), 2)
