"""top: real connections, counted; as a table, as data, and on a pseudo-terminal."""
import collections
import json
import os
import re
import resource
import signal
import subprocess
import time

from lib.case import *
from lib.program import VIPMAP
from lib.terminal import SETTLING, Terminal

DOWN, UP, ESCAPE = "\x1b[B", "\x1b[A", "\x1b"


def objects(*more):
    return (both("busy", 11, ["pod1", "r1"]) + both("shop", 12, ["pod2", "r2", unready("r3")], affinity=100)
            + both("idle", 13, ["r1"]) + both("empty", 14, []) + list(more))


def run(b, *argv, want=0, **more):
    status, out, err = b.program.run("top", *argv)
    b.equal("exit status of %s; %s%s" % (" ".join(argv), out, err), want, status)
    return out


def hold(b, target, n, family=4):
    return [b.connection("client", target, family) for _ in range(n)]


class Held:
    """Connections while tests look at them."""

    def __init__(self, b):
        self.b, self.all = b, []
        b.start(objects())
        b.program.flush()
        self.busy = hold(b, "svc11:80", 7) + hold(b, "svc11:80", 2, 6)
        self.shop = hold(b, "svc12:80", 3)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for c in self.busy + self.shop + self.all:
            c.close()


def endpoints(held):
    """What the servers say of themselves: {address: connections}"""
    return collections.Counter(c.first.split()[-2] for c in held)


@case("top counts connections by Service and endpoint, field by field", "")
def data(b):
    with Held(b) as held:
        top = json.loads(run(b, "-o", "json"))
        b.equal("fields", {"nodeName", "connections", "newPerSecond", "intervalSeconds", "items"}, set(top))
        b.equal("node", "node1", top["nodeName"])
        b.true("interval: %s" % top["intervalSeconds"], 0.9 < top["intervalSeconds"] < 5)
        items = {i["service"]: i for i in top["items"]}
        b.equal("order", ["default/busy:t80", "default/shop:t80"], [i["service"] for i in top["items"]][:2])
        b.equal("all Services are there", {"default/busy:t80", "default/busy:u80", "default/shop:t80", "default/shop:u80",
                                           "default/idle:t80", "default/idle:u80", "default/empty:t80",
                                           "default/empty:u80"}, set(items) - {n for n in items if "zz-marker" in n})
        b.equal("fields of one", {"service", "connections", "newPerSecond", "endpointsUsed", "affinityTimeoutSeconds",
                                  "endpoints"}, set(items["default/shop:t80"]))
        for name, mine, used in (("default/busy:t80", held.busy, 2), ("default/shop:t80", held.shop, 2)):
            b.equal(name, (len(mine), used, 0), tuple(items[name][k] for k in
                                                      ("connections", "endpointsUsed", "newPerSecond")))
            b.equal(name + ", endpoints", endpoints(mine),
                    {e["address"]: e["connections"] for e in items[name]["endpoints"]})
            b.equal("fields of an endpoint", {"address", "connections", "newPerSecond"}, set(items[name]["endpoints"][0]))
        b.equal("affinity", (100, None), (items["default/shop:t80"]["affinityTimeoutSeconds"],
                                          items["default/busy:t80"].get("affinityTimeoutSeconds")))
        b.equal("idle", (0, []), (items["default/idle:t80"]["connections"], items["default/idle:t80"]["endpoints"]))
        b.true("all", top["connections"] >= 12)


@case("top tells how many connections are new", "")
def new(b):
    with Held(b) as held:
        asking = subprocess.Popen([VIPMAP, "top", "-o", "json", "--interval", "3s"], stdout=subprocess.PIPE, text=True,
                                  preexec_fn=b.program.enter)
        time.sleep(1)  # the first look is over long ago, the second not begun
        held.all = hold(b, "svc11:80", 6)
        held.all.pop().close()  # conntrack knows it for a while
        top = json.loads(asking.communicate(timeout=20)[0])
        busy = next(i for i in top["items"] if i["service"] == "default/busy:t80")
        b.equal("connections", 9 + 6, busy["connections"])
        b.true("new ones: %s" % busy, abs(busy["newPerSecond"] * top["intervalSeconds"] - 6) < 0.1)
        b.true("of the endpoints", abs(sum(e["newPerSecond"] for e in busy["endpoints"]) - busy["newPerSecond"]) < 0.01)


@case("top -1 prints one frame, and so does top without a terminal", "")
def one(b):
    with Held(b) as held:
        out = run(b, "-1", "default/")
        lines = [re.split(r"  +", line) for line in out.splitlines()]
        b.equal("headers", ["SERVICE", "CONNS", "NEW/s", "USED", "ENDPOINTS"], lines[0])
        rows = {line[0]: line[1:] for line in lines[1:] if "zz-marker" not in line[0]}
        b.equal("busy", ["9", "0", "2"], rows["default/busy:t80"][:3])
        spread = dict(part.rsplit(" ", 1) for part in rows["default/busy:t80"][3].split(", "))
        b.equal("busy's endpoints", endpoints(held.busy), {k: int(n) for k, n in spread.items()})
        b.equal("shop's", "%s 3 (affinity)" % next(iter(endpoints(held.shop))), rows["default/shop:t80"][3])
        b.equal("idle", ["0", "0", "1", "-"], rows["default/idle:t80"])
        b.equal("without endpoints", ["0", "0", "0", "-"], rows["default/empty:t80"])
        b.equal("not a terminal", out, run(b, "default/"))
        b.equal("filtered, no headers", 1, len(run(b, "--no-headers", "busy:t80").splitlines()))
        yaml = run(b, "-o", "yaml", "busy:t80")
        b.true("YAML: " + yaml, "- service: \"default/busy:t80\"\n  connections: 9\n" in yaml)
    for argv, text in ((["--interval", "1ms"], "is not a duration of 100ms or more"), (["-o", "wide"], "neither json nor yaml"),
                       (["a", "b"], "unexpected argument \"b\"")):
        status, _, err = b.program.run("top", *argv)
        b.true("%s: %d %s" % (argv, status, err), status == 2 and text in err)
    b.stop()
    status, out, err = b.program.run("top")
    b.true("nobody runs: %d %s" % (status, err), status == 4 and not out and "no vipmap runs here" in err)


def first_rows(t):
    """The names in the first column, from above."""
    return [line[2:].split()[0] for line in t.text().splitlines()[3:] if line[:2] in ("> ", "  ") and line.strip()]


def marked(t):
    return next((line[2:].split()[0] for line in t.text().splitlines() if line.startswith("> ")), None)


@case("top on a terminal: sorted, filtered, from Services into endpoints into flows and back", "")
def levels(b):
    with Held(b) as held, Terminal(b.program, ["top", "--interval", "200ms"], columns=200) as t:
        t.shows(b, r"^> default/busy:t80 +9 +0 ")
        t.shows(b, r"^vipmap top  node node1  \d+ connections, \d\S* new/s  \d\d:\d\d:\d\d$")
        b.true("shop: " + t.text(), re.search(r"(?m)^  default/shop:t80 +3 +0 +2  %s ▇▇▇▇▇▇▇▇▇▇ 3   <- affinity$"
                                              % re.escape(next(iter(endpoints(held.shop)))), t.text()))
        b.equal("the bars of busy", endpoints(held.busy), {
            a: int(n) for a, n in re.findall(r"(\S+) ▇+ (\d+)", re.search(r"(?m)^> .*$", t.text()).group(0))})
        # it refreshes
        held.all = hold(b, "svc13:80", 12)
        t.shows(b, r"^> default/idle:t80 +12 ")
        # by name, and by connections again
        t.type("s")
        t.until(b, "by name", lambda: first_rows(t)[:3] == ["default/busy:t80", "default/busy:u80", "default/empty:t80"])
        t.type("c")
        t.until(b, "by connections", lambda: first_rows(t)[:3] == ["default/idle:t80", "default/busy:t80",
                                                                     "default/shop:t80"])
        # by what is new: the other Service
        t.type("n")
        more = hold(b, "svc12:80", 5)
        t.until(b, "by new", lambda: first_rows(t)[0] == "default/shop:t80" and
                re.search(r"(?m)^. default/shop:t80 +8 +[1-9]", t.text()))
        t.type("c")
        held.all += more
        # the filter
        t.type("/sho")
        t.shows(b, r"^filter: sho_")
        t.until(b, "filtered", lambda: first_rows(t)[:2] == ["default/shop:t80", "default/shop:u80"] and
                "default/busy" not in t.text())
        t.type("x\x7fp\r")
        t.shows(b, r"^Services by connections: 2 with \"shop\"$")
        t.type(ESCAPE)
        t.shows(b, r"default/busy:t80")
        # the cursor stays with its row
        t.type(DOWN)
        t.until(b, "the second row", lambda: marked(t) == "default/busy:t80")
        held.all += hold(b, "svc11:80", 9)
        t.until(b, "it comes first", lambda: first_rows(t)[0] == "default/busy:t80")
        b.equal("marked", "default/busy:t80", marked(t))
        # deeper
        t.type("\r")
        t.shows(b, r"^default/busy:t80 endpoints by connections: 4$")
        held.busy += held.all[-9:]
        t.until(b, "endpoints", lambda: {a: int(n) for a, n in re.findall(r"(?m)^[> ] (\S+:8080) +(\d+) ", t.text())} == {
            a: endpoints(held.busy).get(a, 0) for a in (join(addr(e, f), 8080) for e in ("pod1", "r1") for f in both_families)} or None)
        chosen = marked(t)
        t.type("\r")
        t.shows(b, r"^default/busy:t80 at %s flows by the time left: %d$" % (re.escape(chosen), endpoints(held.busy)[chosen]))
        ports = {c.sock.getsockname()[1] for c in held.busy if c.first.split()[-2] == chosen}
        flows_ = lambda: re.findall(r"(?m)^[> ] (\S+) +(\S+)/tcp +(\S+) +ESTABLISHED +\S+$", t.text())
        t.until(b, "clients %s" % ports, lambda: ports == {int(f[0].rpartition(":")[2]) for f in flows_()})
        b.equal("its flows", {chosen}, {f[2] for f in flows_()})
        # and back
        t.type(ESCAPE)
        t.shows(b, r"^default/busy:t80 endpoints by connections: 4$")
        t.type(ESCAPE)
        t.until(b, "Services", lambda: marked(t) == "default/busy:t80")
        t.type("q")
        b.equal("nothing is said", "", t.end(b, 0))


@case("top shows what endpoints are not used, and those that have gone", "")
def endpoints_left(b):
    with Held(b) as held, Terminal(b.program, ["top", "--interval", "200ms", "shop:t80"], columns=140) as t:
        t.shows(b, r"^> default/shop:t80 +3 ")
        t.type("\r")
        t.shows(b, r"10\.180\.1\.23:8080 +0 +0 .* no: not ready$")
        was = next(iter(endpoints(held.shop)))
        b.apply(both("busy", 11, ["pod1", "r1"]) + both("shop", 12, ["pod3"], affinity=100))
        t.shows(b, r"%s +3 +0 +- +- +gone; these connections go on$" % re.escape(was))
        t.type("q")
        t.end(b, 0)


@case("top fits any size, and follows it", "")
def sizes(b):
    with Held(b), Terminal(b.program, ["top", "--interval", "100ms"], rows=24, columns=100) as t:
        t.shows(b, r"^> default/busy:t80 +9 ")
        for rows, columns in ((40, 200), (6, 30), (4, 10), (3, 5), (1, 1), (24, 80)):
            t.resize(rows, columns)  # what does not fit fails in the terminal
            deadline = time.monotonic() + 2 * SETTLING
            while time.monotonic() < deadline:
                t.read(0.05)
            b.true("%d x %d: %s" % (rows, columns, t.text()), t.text().startswith("vipmap top"[:columns].rstrip()))
            if rows > 4:
                b.equal("%d x %d: rows" % (rows, columns), rows, len(t.lines))
                b.true("the last: " + t.lines[-1], t.lines[-1].startswith("q quit"))
        # the cursor goes beyond the first page, and stays on the screen
        t.resize(8, 80)
        t.shows(b, r"^q quit")
        for _ in range(8):
            t.type(DOWN)
        t.until(b, "scrolled", lambda: len(t.lines) == 8 and marked(t) and not first_rows(t)[0].startswith("default/busy:t80"))
        t.type("\x1b[H")
        t.until(b, "home", lambda: marked(t) == "default/busy:t80")
        t.type("\x1b[F\x1b[5~\x1b[6~")
        t.until(b, "the end", lambda: marked(t) and marked(t) == first_rows(t)[3])
        t.type("q")
        t.end(b, 0)


@case("top leaves the terminal as it was, however it ends", "")
def restored(b):
    for name, end, want in (("q", lambda t: t.type("q"), 0), ("Ctrl-C", lambda t: t.type("\x03"), 0),
                            ("SIGTERM", lambda t: t.process.terminate(), 0),
                            ("SIGINT", lambda t: t.process.send_signal(signal.SIGINT), 0),
                            ("SIGHUP", lambda t: t.process.send_signal(signal.SIGHUP), 0)):
        b.start(objects())
        with Terminal(b.program, ["top"]) as t:
            t.shows(b, r"^> default/")
            b.true(name + ": it takes the screen", t.alternate and t.hidden)
            end(t)
            b.equal(name, "", t.end(b, want).replace("^C", ""))
    with Terminal(b.program, ["top", "--interval", "200ms"]) as t:
        t.shows(b, r"^> default/")
        b.stop()
        out = t.end(b, 4)
        b.true("the daemon is gone: %r" % out, out.startswith("vipmap: no vipmap runs here: ") and out.count("\n") == 1)
    with Terminal(b.program, ["top"]) as t:
        b.true("there was none", "no vipmap runs here" in t.end(b, 4))


@case("top is plain where that is wanted: NO_COLOR, no UTF-8, a dumb terminal", "")
def plain(b):
    with Held(b):
        for env, colours, bar in (((), True, "▇"), ((("NO_COLOR", "1"),), False, "▇"), ((("LANG", "C"),), True, "#")):
            with Terminal(b.program, ["top"], env=env) as t:
                t.shows(b, r"^> default/busy:t80 +9 +\S+ .* %s+ " % bar)
                b.equal("conspicuous with %s" % (env,), colours, t.colours > 0)
                t.type("q")
                t.end(b, 0)
        with Terminal(b.program, ["top"], env=(("TERM", "dumb"),)) as t:
            out = t.end(b, 0)
            b.true("dumb: " + out, re.search(r"(?m)^default/busy:t80  +9 ", out) and out.startswith("SERVICE "))


@case("top takes bounded time with many connections, and no sync waits for it", "")
def many(b):
    b.start(objects())
    b.program.flush()
    b.connect_tool("client", "svc11:80", 4, "-u", "-n", 20000, "-w", 512)
    n = len(b.conntrack(4, "udp", dst=addr("svc11", 4), dport=80))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    top = json.loads(run(b, "-o", "json", "--interval", "100ms"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    busy = next(i for i in top["items"] if i["service"] == "default/busy:u80")
    b.true("%d of %d are counted" % (busy["connections"], n), n > 10000 and n * 0.9 <= busy["connections"] <= n)
    print("       %d connections, two looks: %.0f ms of a processor" % (busy["connections"], took * 1000), flush=True)
    b.true("two looks take %.1f s of a processor" % took, took < 2 * probe.SLOW)
    alone = min(b.apply(objects(*both("more", 20 + i, ["pod1"]))) for i in range(3))
    watching = subprocess.Popen([VIPMAP, "top", "-1", "--interval", "5s"], stdout=subprocess.DEVNULL,
                                preexec_fn=b.program.enter)
    beside = min(b.apply(objects(*both("more", 30 + i, ["pod1"]))) for i in range(3))
    watching.kill()
    watching.wait()
    b.true("a change takes %.0f ms, beside it %.0f ms" % (alone * 1000, beside * 1000), beside < alone + 0.5)
