"""Cases: tables of rows (who connects to what, and what must become of it) and functions for what a row
cannot say. Files in tests/packets say `from lib.case import *` and call group() and @case().

A row runs once per family and protocol. All rows of a group run at the same time, so that waiting for what
is dropped costs half a second per group and not per row.
"""
import collections
import contextlib
import json
import math
import os
import random
import re
import time
import traceback

from . import netns, packet, probe, topology
from .manifests import *  # noqa: F401,F403
from .manifests import base
from .program import DETECT, MARKER, Program, ProgramFailed
from .topology import addr, join

QUICK = 0.8 * probe.SLOW  # seconds within which a refusal counts as quick, on a busy machine
SILENCE = 0.45   # seconds of silence that count as dropped
MISS = 1e-8      # chance that a good program does not reach one of its endpoints in a case
MARKERS = "|".join(re.escape(addr(n, f)) for n in (MARKER, "svc65000") for f in (4, 6))

registry = []


class Failure(Exception):
    """want and got"""


class Skip(Exception):
    """a reason that makes the case impossible on this machine"""


class Want:
    """kind: reach, refuse, drop, pass"""

    def __init__(self, kind, endpoints=(), src=None):
        self.kind, self.endpoints, self.src = kind, endpoints, src

    def addresses(self, family):
        out = set()
        for e in self.endpoints:
            name, _, port = e.partition(":")
            out.add((topology.namespace_of(name), join(addr(name, family), int(port or 8080))))
        return out

    def describe(self, family):
        if self.kind != "reach":
            return {"refuse": "refused at once", "drop": "silence", "pass": "untouched"}[self.kind]
        return "each of %s, source %s" % (
            " ".join(sorted("%s(%s)" % (a, ns) for ns, a in self.addresses(family))), self.src or "any")


def reach(*endpoints, src=None):
    """All these endpoints ("pod1" or "pod1:8081") and no others; @src "kept" or "node", None for whatever."""
    return Want("reach", endpoints, src)


REFUSED = Want("refuse")
DROPPED = Want("drop")
UNTOUCHED = Want("pass")


class Row:
    """@source is a name of lib.topology or "host" (a process on the node, address left to the kernel)."""

    def __init__(self, name, ids, source, destination, want, families=(4, 6), protos=("tcp", "udp"), count=None,
                 slim=False):
        self.name, self.ids, self.source, self.destination, self.want, self.count = (
            name, ids, source, destination, want, count)
        pairs = [(f, p) for f in families for p in protos]
        # slim: each family and each protocol once, for rows that differ little from others that have all four
        self.pairs = [(f, p) for f, p in pairs if (f == 4) == (p == "tcp")] if slim else pairs


def group(title, objects, rows, flags=DETECT, config=None, before=None, after=None, with_base=True):
    """One set of objects, one run of `--once`, many rows. @before and @after are called with the bench."""
    registry.append(("group", title, objects, rows, flags, config, before, after, with_base))


def case(name, ids, families=(None,), protos=(None,)):
    """A function called with the bench, and with family and protocol if it wants them."""
    def add(function):
        registry.append(("case", name, ids, function, families, protos))
        return function
    return add


def seed():
    """For what is random: a new one in each run, or $SEED to see a failure again."""
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))


def tally_of(out):
    tally, slowest = {}, 0.0
    for line in out.splitlines():
        first, _, rest = line.partition(" ")
        if first == "slowest":
            slowest = float(rest)
        else:
            tally[rest.replace("reached ", "", 1)] = int(first)
    return tally, slowest


def probes_needed(endpoints):
    if endpoints <= 1:
        return 16  # a second one that has no business there would be met
    return math.ceil(math.log(MISS / endpoints) / math.log(1 - 1 / endpoints))


class Bench:
    """What a test function works with: the world, the program, and ways to look at packets."""

    def __init__(self, world, report):
        self.world, self.report = world, report
        self.program = Program(world)

    def close(self):
        self.program.close()

    # the program
    def once(self, objects, *flags):
        return self.program.once(base() + list(objects), *(flags or DETECT))

    def start(self, objects, *flags):
        self.program.start(base() + list(objects), *(flags or DETECT))

    def apply(self, objects):
        return self.program.apply(base() + list(objects))

    def stop(self, *how):
        return self.program.stop(*how)

    def nft(self, text):
        self.world.nft(text)

    def in_node(self, *argv, **more):
        return netns.run(*argv, ns=self.world.name["node"], **more)

    # packets
    def make(self, source, destination, family, proto, timeout=3.0, sport=0, mark=0):
        target, _, port = destination.rpartition(":")
        return probe.Probe(self.world.name[topology.namespace_of(source)], proto, addr(target, family), int(port),
                           None if source == "host" else addr(source, family), sport, timeout, mark)

    def probe(self, source, destination, family, proto, count=1, timeout=3.0, mark=0):
        """@count probes at once; their results."""
        made = [self.make(source, destination, family, proto, timeout, mark=mark) for _ in range(count)]
        probe.run(made)
        return [self.strip(p.result) for p in made]

    def strip(self, result):
        return result

    def connection(self, source, destination, family, proto="tcp", sport=0):
        target, _, port = destination.rpartition(":")
        return probe.Connection(self.world.name[topology.namespace_of(source)], proto, addr(target, family),
                                int(port), None if source == "host" else addr(source, family), sport)

    def ping(self, source, target, family):
        """Who answers an echo request: "vip" if a reply came from the address itself and the node alone made it, "world"
        if it went on and was answered there, "refused" or "silence"."""
        w, ident = self.world.name, next(packet.IDENT)
        ns = w[topology.namespace_of(source)]
        with packet.Sniffer(ns, w["world"]) as sniffer:
            packet.send_echo(ns, family, None if source == "host" else addr(source, family), addr(target, family), ident)

            def answer(where, p):
                if where != ns:
                    return False
                return p.type in (0, 129) and p.ident == ident or (
                    p.inner is not None and p.inner.dst == addr(target, family))
            got = sniffer.collect(answer, 1.5 * probe.SLOW)
            sniffer.collect(lambda *_: False, 0.1)  # what came at the same time elsewhere
        if not got:
            return "silence"
        if got[1].inner is not None:
            return "refused"
        left = any(where == w["world"] and p.type in (8, 128) and p.ident == ident for where, p in sniffer.seen)
        return "world" if left else "vip" if got[1].src == addr(target, family) else got[1].src

    def connect_argv(self, source, destination, family, *flags):
        target, _, port = destination.rpartition(":")
        argv = [os.path.join(topology.TOOLS, "connect"), *map(str, flags)]
        if source != "host":
            argv += ["-s", addr(source, family)]
        return argv + [addr(target, family), port]

    def connect_tool(self, source, destination, family, *flags, timeout=60):
        """tests/tools/connect.c: ({answer: count}, slowest in ms). Answers: "pod1 ADDRESS:PORT", "refused", ..."""
        argv = self.connect_argv(source, destination, family, *flags)
        return tally_of(netns.run(*argv, timeout=timeout, ns=self.world.name[topology.namespace_of(source)]))

    def expect(self, source, destination, family, proto, want, count=None, name=""):
        """One row at once."""
        judge = Judge(self, Row(name, "", source, destination, want, count=count), family, proto)
        probe.run(judge.probes)
        judge.judge()

    def expect_both(self, destination, *endpoints):
        """The client reaches these by TCP, in both families."""
        for family in both_families:
            self.expect("client", destination, family, "tcp", reach(*endpoints))

    def eventually(self, source, destination, family, proto, want, seconds=3.0, count=None):
        """The row becomes true within @seconds."""
        patience = probe.Patience(seconds)
        while True:
            try:
                self.expect(source, destination, family, proto, want, count)
                return
            except Failure:
                if patience.over():
                    raise
            time.sleep(0.02)

    def until(self, what, want, get, seconds=3.0):
        """get() becomes @want within @seconds."""
        patience = probe.Patience(seconds)
        while True:
            got = get()
            if got == want:
                return
            if patience.over():
                self.fail(what, want, got)
            time.sleep(0.02)

    def hears(self, pattern, seconds=3.0):
        """The daemon's log has a match within @seconds."""
        patience = probe.Patience(seconds)
        while not re.search(pattern, self.program.log):
            if patience.over():
                self.fail("the log", pattern, self.program.log[-1500:])
            time.sleep(0.02)

    def kernel_objects(self, loose=False):
        """The ruleset, sorted, without handles. Pick chains never count, since idle ones may stay for a minute. If
        @loose, nor do the objects of session affinity and of source ranges, for the same reason, nor the order of
        endpoints."""
        out = []
        for item in json.loads(self.in_node("nft", "-j", "list", "ruleset"))["nftables"]:
            kind, what = next(iter(item.items()))
            name = what.get("chain" if kind == "rule" else "name", "")
            if kind in ("metainfo", "table") or "pick-" in name or (
                    loose and name.startswith(("sticky/", "sticky-local/", "affinity", "ranges/", "firewall/"))):
                continue
            if loose and "endpoints" in name:
                for key, _ in what.get("elem", ()):
                    key["concat"].pop()
            if "elem" in what:
                what["elem"] = sorted(what["elem"], key=json.dumps)
            text = json.dumps({k: v for k, v in what.items() if k != "handle"}, sort_keys=True)
            # the marker's port is another one with each revision
            text = re.sub(r'"(%s)", "tcp", \d+' % MARKERS, "marker", text)
            out.append(re.sub(r"zz-marker:t\d+", "marker", text))
        return sorted(out)

    # judgement
    def fail(self, what, want, got):
        raise Failure("%s: want %s, got %s" % (what, want, got))

    def equal(self, what, want, got):
        if want != got:
            self.fail(what, want, got)

    def true(self, what, got, want="true"):
        if not got:
            self.fail(what, want, got)

    # conntrack
    def conntrack(self, family, proto, **filters):
        """Entries as lists of words; filters are options of conntrack: dst=..., dport=..."""
        argv = ["conntrack", "-L", "-f", "ipv%d" % family, "-p", proto]
        names = {"src": "--orig-src", "dst": "--orig-dst", "sport": "--orig-port-src", "dport": "--orig-port-dst",
                 "reply_src": "--reply-src"}
        for k, v in filters.items():
            argv += [names[k], str(v)]
        return [line.split() for line in self.in_node(*argv, check=False).splitlines()]


@contextlib.contextmanager
def cut(b, name, family):
    """Whatever is sent to that address, or by it, is lost."""
    ns, ip = b.world.name[topology.namespace_of(name)], "ip" if family == 4 else "ip6"
    rule = "%s %%s %s drop" % (ip, addr(name, family))
    netns.run("nft", "-f", "-", ns=ns, stdin=(
        "table inet cut { chain in { type filter hook prerouting priority -300; %s; }; "
        "chain out { type filter hook output priority -300; %s; }; }" % (rule % "daddr", rule % "saddr")))
    try:
        yield
    finally:
        netns.run("nft", "delete", "table", "inet", "cut", ns=ns)


class Judge:
    def __init__(self, bench, row, family, proto):
        self.bench, self.row, self.family, self.proto = bench, row, family, proto
        want = row.want
        count = row.count or (probes_needed(len(want.endpoints)) if want.kind == "reach" else 3)
        timeout = SILENCE if want.kind == "drop" else 4.0
        self.probes = [bench.make(row.source, row.destination, family, proto, timeout) for _ in range(count)]

    def destination(self):
        target, _, port = self.row.destination.rpartition(":")
        return join(addr(target, self.family), int(port))

    def kept(self, p):
        # conntrack may change the port if another flow to that endpoint has it; the address says it all, since
        # every link of the node has addresses of its own
        return p.bound is None or p.result.peer.rpartition(":")[0].strip("[]") == p.bound[0]

    def mostly_quick(self):
        return sum(p.result.took < QUICK for p in self.probes) * 2 > len(self.probes)

    def complaint(self, p):
        """Why this one probe is wrong, or None."""
        want, r = self.row.want, p.result
        if want.kind == "drop":
            return None if r.kind == "silent" else str(r)
        if want.kind == "refuse":
            if r.kind != "refused" or r.how != ("rst" if self.proto == "tcp" else "port"):
                return str(r)
            # a packet may be lost on a busy machine and be repeated a second later, but not most of them
            return None if r.took < QUICK or self.mostly_quick() else "refused after %.1f s" % r.took
        if r.kind != "reached":
            return str(r)
        if want.kind == "pass":
            if r.local != self.destination():
                return str(r)
            return None if self.kept(p) else "source %s" % r.peer
        if (r.namespace, r.local) not in want.addresses(self.family):
            return str(r)
        if want.src == "kept":
            return None if self.kept(p) else "source %s" % r.peer.rpartition(":")[0]
        if want.src == "node":
            seen = r.peer.rpartition(":")[0].strip("[]")
            if seen not in self.bench.world.node_addresses[self.family]:
                return "source %s" % seen
            # a host process has an address of the node anyway: what tells is whether it is another one
            if self.row.source in ("host", "node", "node2", "nodeworld") and self.kept(p):
                return "source kept"
        return None

    def judge(self):
        bad = collections.Counter(filter(None, map(self.complaint, self.probes)))
        reached = {(p.result.namespace, p.result.local) for p in self.probes if p.result.kind == "reached"}
        want = self.row.want
        missing = want.addresses(self.family) - reached if want.kind == "reach" else set()
        if not bad and not missing:
            return
        got = ["%d x %s" % (n, what) for what, n in bad.most_common()]
        if missing and len(bad) < len(self.probes):
            got.append("never reached: " + " ".join(a for _, a in sorted(missing)))
        raise Failure("%s -> %s: want %s, got %s (%d probes)" % (
            self.row.source, self.destination(), want.describe(self.family), "; ".join(got), len(self.probes)))


class Report:
    """One line per case; the counts at the end."""

    def __init__(self, pattern=None, verbose=True):
        self.passed = self.failed = self.skipped = 0
        self.pattern, self.verbose = pattern, verbose

    def wants(self, title, ids):
        return not self.pattern or self.pattern.search(title + " " + ids)

    def line(self, verdict, title, ids, detail=""):
        print("%-6s %s%s" % (verdict, title, " (%s)" % ids if ids else ""), flush=True)
        if detail:
            print("       " + detail.replace("\n", "\n       "), flush=True)

    def attempt(self, title, ids, function):
        try:
            function()
        except Failure as e:
            self.failed += 1
            self.line("FAIL", title, ids, str(e))
        except Skip as e:
            self.skipped += 1
            self.line("skip", title, ids, str(e))
        except (ProgramFailed, netns.CommandFailed) as e:
            self.failed += 1
            self.line("FAIL", title, ids, str(e))
        except Exception:
            self.failed += 1
            self.line("FAIL", title, ids, traceback.format_exc())
        else:
            self.passed += 1
            self.line("ok", title, ids)


def label(family, proto):
    words = (["IPv%d" % family] if family else []) + ([proto.upper()] if proto else [])
    return " [%s]" % " ".join(words) if words else ""


def run_group(bench, report, item):
    _, title, objects, rows, flags, config, before, after, with_base = item
    todo = [(row, f, p) for row in rows for f, p in row.pairs
            if report.wants("%s: %s%s" % (title, row.name, label(f, p)), row.ids)]
    if not todo:
        return
    objects = objects() if callable(objects) else objects
    flags = list(flags)
    broken = None
    try:
        if config is not None:
            flags += ["--config", bench.program.file("config.yaml", config)]
        if before:
            before(bench)
        bench.program.once((base() if with_base else []) + list(objects), *flags)
        judges = [Judge(bench, row, f, p) for row, f, p in todo]
        probe.run([p for j in judges for p in j.probes])
    except (ProgramFailed, netns.CommandFailed) as e:
        broken = e
    for i, (row, f, p) in enumerate(todo):
        def check(i=i):
            if broken:
                raise broken
            judges[i].judge()
        report.attempt("%s: %s%s" % (title, row.name, label(f, p)), row.ids, check)
    if after:
        after(bench)


def run_case(bench, report, item):
    _, name, ids, function, families, protos = item
    for f in families:
        for p in protos:
            title = name + label(f, p)
            if not report.wants(title, ids):
                continue
            args = [a for a in (f, p) if a is not None]
            bench.program.flush()
            try:
                report.attempt(title, ids, lambda: function(bench, *args))
            finally:
                try:
                    bench.program.stop()
                except ProgramFailed as e:
                    report.failed += 1
                    report.line("FAIL", title + ": end", ids, str(e))


def run_all(report):
    with topology.World() as world:
        bench = Bench(world, report)
        try:
            for item in registry:
                (run_group if item[0] == "group" else run_case)(bench, report, item)
        finally:
            bench.close()


both_families = (4, 6)
both_protos = ("tcp", "udp")

__all__ = [n for n in dir() if not n.startswith("_")]
