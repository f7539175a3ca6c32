"""TCP connections whose endpoint is gone, with closeConnections EndpointGone and without. Here an endpoint goes as a
node does that loses its power: no FIN and no RST, all that is sent to it is lost."""
import signal
import threading
import urllib.request

from lib.case import *
from lib.probe import SLOW

VIPS = ("svc11:80", "lb11:80", "ext11:80", "node:30080")
ENDED = ("ECONNRESET", "ECONNREFUSED", "EPIPE", "closed")


def web(endpoints, word=None, **more):
    out = both("web", 11, endpoints, kind="LoadBalancer", lb=["lb11"], external=["ext11"], nodeport=30080, **more)
    if word:
        out[0]["metadata"]["annotations"] = {"vipmap/close-connections": word}
    return out


def setting(b, word):
    """The configuration's file says so from now on; the flags that name it."""
    return DETECT + ("--vipmap-config", b.program.file(
        "vipmap.yaml", "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\ncloseConnections: %s\n" % word))


def start(b, objects, word="EndpointGone"):
    b.start(objects, *(setting(b, word) if word else DETECT))


def opened(b, vip, family, source="client"):
    c = b.connection(source, vip, family)
    c.sock.settimeout(0.1)
    return c


def where(c):
    """Who answers now: "NAMESPACE ADDRESS:PORT", "silent", or the error's name."""
    return " ".join(c.ask().split()[:2])


def place(name, family):
    return "%s %s" % (topology.namespace_of(name), join(addr(name, family), 8080))


def ends(b, c, what="a connection whose endpoint is gone", seconds=1.0):
    """Whoever sends learns within a second that it is over."""
    deadline = time.monotonic() + seconds * SLOW
    got = where(c)
    while got not in ENDED and time.monotonic() < deadline:
        got = where(c)
    b.true("%s: %s" % (what, got), got in ENDED, "an end within %.1f s" % seconds)


def ends_late(b, c, family, endpoint):
    """The same of a client that has waited for long: its kernel sends again when a timer says so that has doubled
    often. What counts is when its entry is gone; the client learns of it by its next packet."""
    b.until("entries of connections whose endpoint is gone", 0, lambda: count(b, family, endpoint), 1.0)
    ends(b, c, "a client that waited, by its next packet", 8.0)


def hangs(b, c, seconds=1.5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        b.equal("a connection whose endpoint is gone", "silent", where(c))


def lives(b, c, want, seconds=0.7):
    deadline = time.monotonic() + seconds
    c.sock.settimeout(2 * SLOW)
    while time.monotonic() < deadline:
        b.equal("a connection that is none of it", want, where(c))
        time.sleep(0.05)


def entries(b, family, count, endpoint, vip="svc11"):
    """Made-up ones, as of established connections to port 80 of the VIP."""
    b.in_node(os.path.join(topology.TOOLS, "entries"), str(count), "tcp", addr(vip, family), "80", addr(endpoint, family),
              "8080")


def count(b, family, endpoint):
    return len(b.conntrack(family, "tcp", dst=addr("svc11", family), reply_src=addr(endpoint, family)))


def number_of_entries(b):
    return int(b.in_node("conntrack", "-C"))


for vip in VIPS:
    @case("the endpoint goes: " + vip, "BEY-1", both_families)
    def endpoint_goes(b, family, vip=vip):
        start(b, web(["r1"]))
        c = opened(b, vip, family)
        b.equal("first", place("r1", family), where(c))
        with cut(b, "r1", family):
            b.apply(web(["pod2"]))
            ends(b, c)
        b.expect("client", vip, family, "tcp", reach("pod2"))

    @case("the last endpoint goes: " + vip, "BEY-1 VER-2", both_families)
    def last_goes(b, family, vip=vip):
        start(b, web(["r1"]))
        c = opened(b, vip, family)
        b.equal("first", place("r1", family), where(c))
        with cut(b, "r1", family):
            b.apply(web([]))
            ends(b, c)

    @case("without the setting it hangs: " + vip, "BEY-1 CT-8", both_families)
    def without(b, family, vip=vip):
        start(b, web(["r1"]), None)
        c = opened(b, vip, family)
        b.equal("first", place("r1", family), where(c))
        with cut(b, "r1", family):
            b.apply(web(["pod2"]))
            hangs(b, c)


@case("from pods and host processes", "BEY-1", both_families)
def other_sources(b, family):
    start(b, web(["r1"]))
    sources = [(source, vip) for source in ("pod2", "node", "rpod", "pod3") for vip in VIPS]
    made = [opened(b, vip, family, source) for source, vip in sources]
    for c in made:
        b.equal("first", place("r1", family), where(c))
    with cut(b, "r1", family):
        b.apply(web(["pod2"]))
        for c, (source, vip) in zip(made, sources):
            ends(b, c, "from %s to %s" % (source, vip), 2.0)


@case("a connection that is being made reaches another endpoint", "BEY-1", both_families)
def being_made(b, family):
    start(b, web(["r1"]))
    with cut(b, "r1", family):
        p = b.make("client", "svc11:80", family, "tcp", timeout=6.0)
        run = threading.Thread(target=probe.run, args=([p],))
        run.start()
        b.until("an entry without an answer", True, lambda: bool(count(b, family, "r1")))
        b.apply(web(["pod2"]))
        b.until("entries of the endpoint that went", 0, lambda: count(b, family, "r1"), 1.0)
        run.join()
        b.equal("where the client got", "pod2", p.result.namespace)


@case("others notice nothing", "BEY-1", both_families)
def others(b, family):
    endpoints = ["r1", "r2", "pod2", terminating("r3")]
    b.start(web(["r1", "r2", "r3", "pod2"]), *setting(b, "EndpointGone"))
    made = [opened(b, vip, family) for vip in VIPS for _ in range(8)]
    first = [where(c) for c in made]
    b.equal("endpoints that were met", {place(e, family) for e in ("r1", "r2", "r3", "pod2")}, set(first))
    alone = b.connection("client", "r1:8080", family)  # to the endpoint itself
    ids = lambda: {line.split("id=")[1] for line in b.in_node(
        "conntrack", "-L", "-f", "ipv%d" % family, "-p", "tcp", "--dport", "80", "-o", "id").splitlines()
        if "id=" in line and "ESTABLISHED" in line and "src=%s " % addr("r1", family) not in line}
    kept = ids()
    b.true("entries", kept)
    b.apply(web(endpoints))
    with cut(b, "r1", family):
        b.apply(web(endpoints[1:]))
        for c, was in zip(made, first):
            if was == place("r1", family):
                ends(b, c)
        for c, was in zip(made, first):
            if was != place("r1", family):
                lives(b, c, was, 0.1)
    b.equal("entries that were replaced", set(), kept - ids())
    lives(b, alone, place("r1", family), 0.1)
    # the one that drained is gone at last
    b.apply(web(["r2", "pod2"]))
    for c, was in zip(made, first):
        if was == place("r3", family):
            ends(b, c)
        elif was != place("r1", family):
            lives(b, c, was, 0.05)


@case("an endpoint moves to another slice", "BEY-1", both_families)
def moves(b, family):
    start(b, web(["r1", "r2"]))
    made = [opened(b, "svc11:80", family) for _ in range(12)]
    first = [where(c) for c in made]
    one, two = web(["r1"]), web(["r2"])
    for s in two[1:]:
        s["metadata"]["name"] += "-more"
    b.apply(one + two[1:])
    for c, was in zip(made, first):
        lives(b, c, was, 0.1)


@case("the Service goes", "BEY-1 VER-15", both_families)
def service_goes(b, family):
    start(b, web(["r1"]))
    made = [opened(b, vip, family) for vip in VIPS]
    b.apply([])
    time.sleep(0.6)
    for c in made:
        lives(b, c, place("r1", family), 0.1)


@case("the endpoint goes while nobody runs", "BEY-1 RUN-2", both_families)
def while_stopped(b, family):
    start(b, web(["r1", "r2"]))
    made = [opened(b, vip, family) for vip in VIPS for _ in range(4)]
    first = [where(c) for c in made]
    b.stop()
    with cut(b, "r1", family):
        start(b, web(["r2"]))
        for c, was in zip(made, first):
            if was == place("r1", family):
                ends(b, c)
            else:
                lives(b, c, was, 0.1)


@case("--once ends them as well", "BEY-1", both_families)
def once(b, family):
    flags = setting(b, "EndpointGone")
    b.once(web(["r1"]), *flags)
    c = opened(b, "svc11:80", family)
    b.program.write(base() + web(["pod2"]))
    with cut(b, "r1", family):
        status, _, err = b.program.run(*b.program.argv(flags)[1:], "--once")
        b.equal("exit status " + err, 0, status)
        ends(b, c)


for word, annotation, over in (("Never", "EndpointGone", True), ("EndpointGone", "Never", False),
                               ("EndpointGone", "Sometimes", True), ("Never", "Sometimes", False)):
    @case("the setting %s and the annotation %s" % (word, annotation), "BEY-1", both_families)
    def annotated(b, family, word=word, annotation=annotation, over=over):
        start(b, web(["r1"], annotation), word)
        c = opened(b, "svc11:80", family)
        with cut(b, "r1", family):
            b.apply(web(["pod2"], annotation))
            (ends if over else hangs)(b, c)
        if annotation == "Sometimes":
            b.hears(r"warning: .*Service default/web: metadata.annotations.vipmap/close-connections: 'Sometimes' is "
                    "neither Never nor EndpointGone; the configuration counts")


@case("the annotation comes and goes", "BEY-1", both_families)
def annotation_changes(b, family):
    start(b, web(["r1"]), None)
    c, other = opened(b, "svc11:80", family), opened(b, "lb11:80", family)
    with cut(b, "r1", family):
        b.apply(web(["r2"]))
        hangs(b, c, 0.6)
        b.apply(web(["r2"], "EndpointGone"))
        ends_late(b, c, family, "r1")
    ends(b, other)
    b.apply(web(["r2"]))
    c = opened(b, "svc11:80", family)
    with cut(b, "r2", family):
        b.apply(web(["r3"]))
        hangs(b, c, 0.8)


@case("a reload switches it on and off", "BEY-1 CFG-3", both_families)
def reloaded(b, family):
    def reload(word):
        setting(b, word)
        b.program.process.send_signal(signal.SIGHUP)

    start(b, web(["r1"]), "Never")
    c = opened(b, "svc11:80", family)
    with cut(b, "r1", family):
        b.apply(web(["r2"]))
        hangs(b, c, 0.6)
        reload("EndpointGone")
        ends_late(b, c, family, "r1")
    c = opened(b, "svc11:80", family)
    with cut(b, "r2", family):
        b.apply(web(["r3"]))
        ends(b, c)
    reload("Never")
    b.hears("closeConnections EndpointGone -> Never")
    c = opened(b, "svc11:80", family)
    with cut(b, "r3", family):
        b.apply(web(["r4"]))
        hangs(b, c)


@case("killed in the middle of 20,000 entries", "BEY-1 RUN-2", both_families)
def killed(b, family):
    start(b, web(["r1", "r2"]))
    made = [opened(b, "svc11:80", family) for _ in range(8)]
    first = [where(c) for c in made]
    entries(b, family, 20000, "r1")
    entries(b, family, 2000, "r2", "lb11")
    mine = first.count(place("r1", family))
    b.equal("entries", 20000 + mine, count(b, family, "r1"))
    before = number_of_entries(b)
    b.program.write(base() + web(["r2"]) + b.program.marker())
    deadline = time.monotonic() + 5
    while number_of_entries(b) > before - 1000 and time.monotonic() < deadline:
        pass
    b.stop(signal.SIGKILL)
    left = count(b, family, "r1")
    b.true("%d entries are left" % left, 0 < left < 20000, "some, and not all")
    time.sleep(0.3)
    b.equal("entries while nobody runs", left, count(b, family, "r1"))
    start(b, web(["r2"]))
    b.until("entries of the endpoint that went", 0, lambda: count(b, family, "r1"), 5)
    b.equal("entries of another", 2000, len(b.conntrack(family, "tcp", dst=addr("lb11", family),
                                                        reply_src=addr("r2", family))))
    for c, was in zip(made, first):
        if was == place("r2", family):
            lives(b, c, was, 0.05)


@case("100,000 entries hold nothing up", "BEY-1 CT-10")
def many(b):
    start(b, web(["r1", "r2"]))
    entries(b, 4, 100000, "r1")
    entries(b, 4, 1000, "r2", "lb11")
    took = [b.apply(web(["r2"]))]
    began = time.monotonic()
    for n in range(12, 22):
        took.append(b.apply(web(["r2"]) + both("other", n, ["pod2"], protos=("TCP",))))
    print("    changes in force after %s ms, during %d ms" % (
        " ".join("%d" % (t * 1000) for t in took), (time.monotonic() - began) * 1000))
    b.true("changes in force after %s" % took, max(took) < 1.0, "less than 1 s each")
    b.until("entries of the endpoint that went", 0, lambda: count(b, 4, "r1"), 20)
    b.equal("entries of another", 1000, len(b.conntrack(4, "tcp", dst=addr("lb11", 4), reply_src=addr("r2", 4))))

    def closed():
        with netns.inside(b.world.name["node"]):
            text = urllib.request.urlopen("http://127.0.0.1:10249/metrics", timeout=30).read().decode()
        return float(re.search(r'^vipmap_connections_closed_total\{ip_family="IPv4"\} (\S+)$', text, re.M).group(1))

    b.until("vipmap_connections_closed_total", 100000, closed, 5)
