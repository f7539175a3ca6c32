"""Two vipmaps in one network namespace: one owns the tables, the other waits and takes over."""
import re
import subprocess
import threading
import time

from lib.case import *
from lib.program import Program

FAMILIES = ("ip", "ip6")


def web(*endpoints):
    return base() + both("web", 11, list(endpoints), kind="LoadBalancer", lb=["lb11"])


def launch(program, objects):
    """Begins, and does not wait for what may never come."""
    program.write(objects)
    program.log = ""
    program.process = subprocess.Popen(program.argv(DETECT), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                       preexec_fn=program.enter, text=True, errors="backslashreplace")
    program.reader = threading.Thread(target=program.read_log, args=(program.process,), daemon=True)
    program.reader.start()


def names_owner(text, pid):
    """Whether this is said of both tables."""
    return [family for family in FAMILIES if "another vipmap (pid %d) owns table %s vipmap" % (pid, family) in text]


def is_owned(b):
    listed = b.in_node("nft", "list", "tables", check=False)
    text = "".join(b.in_node("nft", "list", "table", f, "vipmap") for f in FAMILIES if "table %s vipmap" % f in listed)
    return "owner" in text


@case("the second waits for the first, and takes over", "RUN-7 RUN-8 RUN-9")
def second(b):
    first, other = b.program, Program(b.world)
    try:
        first.start(web("pod1"), *DETECT)
        if not is_owned(b):
            raise Skip("this kernel has no owned tables")
        pid = first.process.pid
        before = b.in_node("nft", "-a", "list", "ruleset")
        launch(other, web("r2"))
        b.until("what the second says", list(FAMILIES), lambda: names_owner(other.log, pid), 5)
        time.sleep(2.5)  # several attempts
        b.equal("the ruleset, handles included", before, b.in_node("nft", "-a", "list", "ruleset"))
        b.equal("lines about it", 2, len(re.findall("owns table", other.log)))
        status, _, err = first.run("--cleanup")
        b.equal("--cleanup", (1, list(FAMILIES)), (status, names_owner(err, pid)))
        b.equal("the ruleset after --cleanup", before, b.in_node("nft", "-a", "list", "ruleset"))
        # the first goes on as if it were alone
        first.apply(web("pod1", "pod2"))
        b.expect_both("lb11:80", "pod1", "pod2")
        b.equal("exit status", 0, first.stop())
        for family in both_families:
            b.eventually("client", "lb11:80", family, "tcp", reach("r2"), 8)
        # and the other way round
        launch(first, web("pod3"))
        b.until("what it says now", list(FAMILIES), lambda: names_owner(first.log, other.process.pid), 5)
        other.stop()
        for family in both_families:
            b.eventually("client", "lb11:80", family, "tcp", reach("pod3"), 8)
    finally:
        other.close()


@case("two begin at once", "RUN-2 RUN-7")
def race(b):
    """Whoever makes the table keeps it: the other does not take it for its own failure and remove it."""
    one, other = b.program, Program(b.world)
    try:
        for _ in range(6):
            one.cleanup()
            launch(one, web("pod1"))
            launch(other, web("pod1"))
            for family in both_families:
                b.eventually("client", "lb11:80", family, "tcp", reach("pod1"), 8)
            if not is_owned(b):
                raise Skip("this kernel has no owned tables")
            handles = b.in_node("nft", "-a", "list", "tables")
            owners = re.compile(r"another vipmap \(pid (\d+)\) owns table (\S+) vipmap")
            b.until("the one that waits says so, in each family", list(FAMILIES),
                    lambda: sorted(f for _, f in set(owners.findall(one.log + other.log))), 5)
            b.equal("the tables are the same still", handles, b.in_node("nft", "-a", "list", "tables"))
            for p in (one, other):
                p.stop()
    finally:
        other.close()
