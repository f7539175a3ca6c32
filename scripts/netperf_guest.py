#!/usr/bin/env python3
"""The part of scripts/bench-netperf that runs where traffic flows: in the virtual machine, or on this host.

usage: netperf_guest.py FOLDER     (with plan.json and the files that it names)

Each world is a client, a node and an endpoint, three network namespaces in a row with veth between them, and has the
rules of its own on its node. A lane is a way through a world: a destination and the network that its client is of.

    client ------------------ node ------------------ endpoint
    192.168.1.2   192.168.1.1      172.20.0.1   172.20.0.2
    10.180.0.0/16, pods                         10.181.0.1 to .3, pods
    198.18.0.0/16, strangers                    and the same in IPv6

Writes lines: "progress TEXT", "version TEXT", "skip LANE TEXT" and "figure ROUND LANE TEST COUNT NANOSECONDS".
"""

import atexit
import json
import os
import shlex
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOLS = os.environ.get("TOOLS", os.path.join(TOP, "build/gcc/tests"))
VIPMAP = os.environ.get("VIPMAP", os.path.join(TOP, "build/gcc/vipmap"))
PORT = 8080
LABELS = ("c", "n", "e")
ENDPOINTS = {4: ["10.181.0.1", "10.181.0.2", "10.181.0.3"], 6: ["fd00:181::1", "fd00:181::2", "fd00:181::3"]}

SETTINGS = """net.ipv4.ip_forward=%d
net.ipv6.conf.all.forwarding=%d
net.ipv4.conf.all.rp_filter=0
net.ipv4.conf.default.rp_filter=0
net.ipv4.conf.all.send_redirects=0
net.ipv4.conf.default.send_redirects=0
net.ipv6.conf.all.accept_dad=0
net.ipv6.conf.default.accept_dad=0
net.ipv6.conf.default.accept_ra=0
net.ipv4.ip_local_port_range=10000 65000
"""
# For `ip -batch`, by namespace.
CLIENT = """link set lo up
link set eth0 up
addr add 192.168.1.2/24 dev eth0
addr add fd00:1::2/64 dev eth0 nodad
route add default via 192.168.1.1
route add default via fd00:1::1
route add local 10.180.0.0/16 dev lo
route add local 198.18.0.0/16 dev lo
route add local fd00:180::/64 dev lo
route add local 2001:db8:18::/64 dev lo
"""
NODE = """link set lo up
link set client up
link set endpoint up
addr add 192.168.1.1/24 dev client
addr add fd00:1::1/64 dev client nodad
addr add 172.20.0.1/24 dev endpoint
addr add fd00:20::1/64 dev endpoint nodad
route add default via 172.20.0.2
route add default via fd00:20::2
route add 10.180.0.0/16 via 192.168.1.2
route add 198.18.0.0/16 via 192.168.1.2
route add fd00:180::/64 via fd00:1::2
route add 2001:db8:18::/64 via fd00:1::2
"""
ENDPOINT = """link set lo up
link set eth0 up
addr add 172.20.0.2/24 dev eth0
addr add fd00:20::2/64 dev eth0 nodad
route add default via 172.20.0.1
route add default via fd00:20::1
""" + "".join(f"addr add {a}/{'128' if ':' in a else '32'} dev lo{' nodad' if ':' in a else ''}\n"
              for family in ENDPOINTS.values() for a in family)

KUBECONFIG = """apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:6443"}}]
users: [{name: u, user: {token: abc}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
"""


def say(kind, *words):
    print(kind, *words, flush=True)


def run(*argv, text=None, timeout=900):
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(argv)[:200]}: status {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout


def end(process):
    process.kill()
    process.wait()


class World:
    def __init__(self, name, number):
        self.name = name
        self.netns = {label: f"vnp{os.getpid()}-{number}{label}" for label in LABELS}
        for label, netns in self.netns.items():
            run("ip", "netns", "add", netns)
            atexit.register(subprocess.run, ["ip", "netns", "del", netns], check=False)
            forward = int(label == "n")
            self.run(label, "sysctl", "-qw", *(SETTINGS % (forward, forward)).splitlines())
        for inner, label in (("client", "c"), ("endpoint", "e")):
            run("ip", "-n", self.netns["n"], "link", "add", inner, "type", "veth", "peer", "name", "eth0", "netns",
                self.netns[label])
        for label, lines in (("c", CLIENT), ("n", NODE), ("e", ENDPOINT)):
            run("ip", "-n", self.netns[label], "-batch", "-", text=lines)
        self.serve()

    def argv(self, label, *argv):
        return ["nsenter", f"--net=/run/netns/{self.netns[label]}", *argv]

    def run(self, label, *argv, **more):
        return run(*self.argv(label, *argv), **more)

    def start(self, label, *argv, **more):
        process = subprocess.Popen(self.argv(label, *argv), stdin=subprocess.DEVNULL, **more)
        atexit.register(end, process)
        return process

    def serve(self):
        server = self.start("e", f"{TOOLS}/transact", "serve", str(PORT), *ENDPOINTS[4], *ENDPOINTS[6],
                            stdout=subprocess.PIPE)
        if server.stdout.readline() != b"ready\n":
            raise RuntimeError("the server does not start")

    def measure(self, test, count, lane, source):
        out = self.run("c", f"{TOOLS}/transact", test, str(count), lane["address"], str(lane["port"]), source)
        return tuple(map(int, out.split()))

    def answers(self, lane, patience=0.0):
        began = time.monotonic()
        while True:
            try:
                self.measure("tcp-rr", 1, lane, source_of(lane, 250))
                return True
            except RuntimeError:
                if time.monotonic() - began > patience:
                    return False
                time.sleep(1)


def vipmap_arguments(plan):
    # Hands off what lies outside of the namespace.
    return ["--hostname-override", plan["node"], "--cluster-cidr", plan["cluster_cidr"], "--oom-score-adj", "0",
            "--conntrack-max-per-core", "0"]


def set_rules(world, rules, plan, folder):
    """Returns nothing; what fails raises."""
    if rules["kind"] == "nft":
        world.run("n", "nft", "-f", os.path.join(folder, rules["file"]))
    elif rules["kind"] == "vipmap":
        config = ["--vipmap-config", os.path.join(folder, rules["config"])] if "config" in rules else []
        world.run("n", VIPMAP, *vipmap_arguments(plan), *config, "--manifests", os.path.join(folder, rules["file"]), "--once")
    elif rules["kind"] == "command":
        start_command(world, rules, plan, folder)


def start_command(world, rules, plan, folder):
    """Gives the command the objects in files, and an API server that has them."""
    objects = os.path.join(folder, rules["file"])
    kubeconfig = os.path.join(folder, "kubeconfig")
    with open(kubeconfig, "w", encoding="ascii") as file:
        file.write(KUBECONFIG)
    load = [word for name in sorted(os.listdir(objects)) for word in ("--load", os.path.join(objects, name))]
    server = world.start("n", sys.executable, os.path.join(TOP, "tests/support/fake_apiserver.py"), "--port", "6443",
                         "--no-stdin", *load, stdout=subprocess.PIPE)
    if not server.stdout.readline().startswith(b"port "):
        raise RuntimeError("the API server does not start")
    variables = {**os.environ, "VIPMAP": VIPMAP, "MANIFESTS": objects, "KUBECONFIG": kubeconfig, "NODE": plan["node"],
                 "CLUSTER_CIDR": plan["cluster_cidr"]}
    process = world.start("n", "sh", "-c", rules["command"], env=variables, stdout=sys.stderr)
    probe = {**plan["probe"], "index": 0}
    if not world.answers(probe, 600):
        state = "runs" if process.poll() is None else f"ended with status {process.returncode}"
        raise RuntimeError(f"{world.name}: {probe['address']} is not answered; the command {state}")


def source_of(lane, number):
    """A client address that no other lane has, and this lane never again."""
    return lane["client"] % (lane["index"] + 1, number)


def prepare(plan, folder):
    worlds = {}
    for number, (name, rules) in enumerate(plan["worlds"].items()):
        began = time.monotonic()
        worlds[name] = World(name, number)
        set_rules(worlds[name], rules, plan, folder)
        say("progress", f"prepared {name}, {number + 1} of {len(plan['worlds'])} ({time.monotonic() - began:.1f} s)")
    return worlds


def usable(worlds, lanes):
    """Only what somebody else gave may be without an answer."""
    good = []
    for lane in lanes:
        if worlds[lane["world"]].answers(lane):
            good.append(lane)
        elif lane["must_answer"]:
            raise RuntimeError(f"lane {lane['name']}: {lane['address']} port {lane['port']} is not answered")
        else:
            say("skip", lane["name"], f"{lane['address']} port {lane['port']} is not answered")
    return good


def flush(world):
    """Entries of all namespaces share one hash table. Then what is freed with a delay is freed."""
    world.run("n", "conntrack", "-F")
    time.sleep(0.1)


def take_turns(worlds, lanes, plan):
    turns = plan["rounds"] * len(lanes)
    for number in range(plan["rounds"]):
        for position in range(len(lanes)):
            # Another lane is the first in each round.
            lane = lanes[(position + number * 7) % len(lanes)]
            world = worlds[lane["world"]]
            for i, (test, count) in enumerate(plan["tests"].items()):
                source = source_of(lane, 1 + number * len(plan["tests"]) + i)
                done, elapsed = world.measure(test, count, lane, source)
                say("figure", number, lane["name"], test, done, elapsed)
            flush(world)
            say("progress", f"round {number} of {plan['rounds'] - 1}{'' if number else ' (warm-up)'}, "
                            f"{number * len(lanes) + position + 1} of {turns} turns")


def make_room():
    """For entries and for looking them up; only in a machine that ends with the command."""
    subprocess.run(["modprobe", "nf_conntrack"], check=False)
    for path, value in (("/sys/module/nf_conntrack/parameters/hashsize", "262144"),
                        ("/proc/sys/net/netfilter/nf_conntrack_max", "1048576")):
        with open(path, "w", encoding="ascii") as file:
            file.write(value)


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "plan.json"), encoding="ascii") as file:
        plan = json.load(file)
    if plan["own_machine"]:
        make_room()
    with open("/sys/devices/system/clocksource/clocksource0/current_clocksource", encoding="ascii") as file:
        clock = file.read().strip()
    say("version", f"Linux {os.uname().release} ({clock}), {run('nft', '--version').split(' (')[0].strip()}, "
                   f"{run(VIPMAP, '--version').splitlines()[0]}")
    worlds = prepare(plan, folder)
    take_turns(worlds, usable(worlds, plan["lanes"]), plan)


try:
    main()
except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
    print(f"bench-netperf: {e}", file=sys.stderr)
    sys.exit(1)
except KeyboardInterrupt:
    sys.exit(130)
