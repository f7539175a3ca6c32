"""The little world in which every packet test happens.

    client ----- node ----- world          the client reaches everything through the node; the world owns
                 | | |                     every service address, so a packet that the node leaves alone
             pod1| | remote                is answered, and one that is dropped is not answered by luck
                 bridge     rpod
                 |    |
               pod2  pod3

  pod1 hangs on an interface vethpod1, pod2 and pod3 on a bridge cbr0; these three are on the node under
  test. "remote" stands for another node and holds the endpoints r1 to r8; rpod is a pod of that node as well, but one
  that connects instead of serving.

Every name below has an address in each family: names are what tests talk about, `addr(name, family)`
turns them into addresses.
"""
import contextlib
import ipaddress
import json
import os
import subprocess

from . import netns

TOOLS = os.environ.get("TOOLS", "build/gcc/tests")

#: name: (namespace, IPv4, IPv6)
HOSTS = {
    "client": ("client", "192.168.1.2", "fd00:1::2"),
    "client2": ("client", "203.0.113.7", "2001:db8:113::7"),
    "client3": ("client", "203.0.113.200", "2001:db8:113:8000::7"),
    "node": ("node", "192.168.1.1", "fd00:1::1"),         # the primary address
    "node2": ("node", "192.168.1.5", "fd00:1::5"),        # a secondary one
    "nodeworld": ("node", "192.0.2.1", "fd00:2::1"),
    "loopback": ("node", "127.0.0.1", "::1"),
    "world": ("world", "192.0.2.2", "fd00:2::2"),
    "pod1": ("pod1", "10.180.0.11", "fd00:180::11"),
    "pod2": ("pod2", "10.180.0.12", "fd00:180::12"),
    "pod3": ("pod3", "10.180.0.13", "fd00:180::13"),
    "remote": ("remote", "172.20.0.2", "fd00:20::2"),
    "rpod": ("rpod", "10.180.1.30", "fd00:180:0:1::30"),
    # the first of 65,536 addresses that are routed to the client
    "crowd": ("client", "198.19.0.0", "2001:db8:19::"),
}
for _i in range(1, 9):
    HOSTS["r%d" % _i] = ("remote", "10.180.1.2%d" % _i, "fd00:180:0:1::2%d" % _i)
# clients by the dozen, for session affinity
for _i in range(1, 41):
    HOSTS["many%d" % _i] = ("client", "198.18.0.%d" % _i, "2001:db8:18::%d" % _i)

LOCAL_PODS = ("pod1", "pod2", "pod3")
CLUSTER_CIDR = "10.180.0.0/16,fd00:180::/48"
NODE_CIDRS = ["10.180.0.0/24", "fd00:180::/64"]
SERVICE_CIDRS = ["172.30.0.0/16", "fd00:30::/112"]
ELSEWHERE = ["198.51.100.0/24", "1.2.3.0/24", "2001:db8:51::/48", "2001:db8:1b::/48"]
POD_GATEWAY = ("10.180.0.1", "fd00:180::1")

#: Where servers listen. 8080 to 8083 are what services translate to; the others are for packets that
#: nobody translated: service port numbers in the world, node port numbers on the node itself.
POD_PORTS = "80,8080-8083"
WORLD_PORTS = "53,80-83,443,8080,30080-30083,31000"
NODE_PORTS = "79,30080-30099,31000,8080-8081"


def addr(name, family):
    """The address of a name: a host above, svcN (ClusterIP), extN, lbN, freeN (in a ServiceCIDR, unused)."""
    if name in HOSTS:
        return HOSTS[name][1 if family == 4 else 2]
    kind = name.rstrip("0123456789")
    number = name[len(kind):]
    if kind and number:
        n = int(number)
        forms = {
            "svc": ("172.30.%d.%d" % (n >> 8, n & 255), "fd00:30::%x" % n),
            "free": ("172.30.200.%d" % n, "fd00:30::c8%02x" % n),
            "ext": ("198.51.100.%d" % n, "2001:db8:51::%x" % n),
            "lb": ("1.2.3.%d" % n, "2001:db8:1b::%x" % n),
        }
        if kind in forms:
            return forms[kind][0 if family == 4 else 1]
    ipaddress.ip_address(name)  # a literal, or an error
    return name


def namespace_of(name):
    return HOSTS["node" if name == "host" else name][0]


def join(address, port):
    """ADDRESS:PORT as the servers print it."""
    return "[%s]:%d" % (address, port) if ":" in address else "%s:%d" % (address, port)


class World:
    """Namespaces, links, routes and servers. Use as a context manager."""

    namespaces = ("client", "node", "world", "pod1", "pod2", "pod3", "remote", "rpod")

    def __init__(self):
        self.name = {label: netns.name_for(label) for label in self.namespaces}
        self.processes = []
        self.node_addresses = {4: set(), 6: set()}

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc):
        self.close()

    def rebuild(self):
        """As new, for cases that bend a setting which cannot be bent back."""
        self.close()
        self._build()

    def close(self):
        for p in self.processes:
            p.kill()
            p.wait()
        self.processes = []
        for name in self.name.values():
            netns.delete(name)

    def ip(self, label, *lines):
        """Lines of `ip -batch`."""
        netns.run("ip", "-n", self.name[label], "-batch", "-", stdin="\n".join(lines) + "\n")

    def nft(self, text):
        netns.run("nft", "-f", "-", ns=self.name["node"], stdin=text)

    def sysctl(self, label, **values):
        netns.sysctl(self.name[label], **values)

    @contextlib.contextmanager
    def node_has(self, device, *addresses, deprecated=False):
        """The node has these addresses, literals or names of any kind, while in the block. IPv6 ones that are
        deprecated are nobody's source, so that no connection depends on them."""
        bits = ["%s/%d dev %s" % (a, 128 if ":" in a else 32, device) for a in addresses]
        # an address is only usable once duplicate detection has passed it by, so there is none
        more = " nodad" + (" preferred_lft 0" if deprecated else "")
        self.ip("node", *["addr add %s%s" % (b, more if ":" in b else "") for b in bits])
        self.refresh_node_addresses()
        try:
            yield
        finally:
            self.ip("node", *["addr del " + b for b in bits])
            self.refresh_node_addresses()

    def refresh_node_addresses(self):
        out = json.loads(netns.run("ip", "-n", self.name["node"], "-j", "addr"))
        found = {4: set(), 6: set()}
        for link in out:
            for a in link.get("addr_info", ()):
                if a.get("family") in ("inet", "inet6") and a.get("scope") != "link":
                    found[4 if a["family"] == "inet" else 6].add(a["local"])
        self.node_addresses = found

    def _build(self):
        for label in self.namespaces:
            netns.add(self.name[label])
            self._settings(label)
        self._links()
        self._client()
        self._world()
        self._pods()
        self._remote()
        self._node()
        self.refresh_node_addresses()
        self._servers()

    def _settings(self, label):
        self.sysctl(label, **{
            "net__ipv4__ip_forward": int(label in ("node", "remote")),
            "net__ipv4__conf__all__rp_filter": 0,
            "net__ipv4__conf__default__rp_filter": 0,
            "net__ipv4__conf__all__send_redirects": 0,
            "net__ipv4__conf__default__send_redirects": 0,
            "net__ipv4__conf__all__accept_redirects": 0,
            "net__ipv4__conf__default__accept_redirects": 0,
            # refusals are counted one by one, so the kernel must not save on them
            "net__ipv4__icmp_ratelimit": 0,
            "net__ipv4__icmp_ratemask": 0,
            "net__ipv6__icmp__ratelimit": 0,
            "net__ipv6__icmp__ratemask": 127,
            "net__ipv6__conf__all__accept_dad": 0,
            "net__ipv6__conf__default__accept_dad": 0,
            "net__ipv6__conf__default__accept_ra": 0,
            "net__ipv6__conf__all__forwarding": int(label in ("node", "remote")),
            "net__ipv4__ip_local_port_range": "20000 60999",
        })
        self.ip(label, "link set lo up")

    def _links(self):
        for label, inner, outer in (("client", "eth0", "toclient"), ("world", "eth0", "toworld"),
                                    ("remote", "eth0", "toremote"), ("rpod", "eth0", "torpod"),
                                    ("pod1", "eth0", "vethpod1"),
                                    ("pod2", "eth0", "brpod2"), ("pod3", "eth0", "brpod3")):
            self.ip("node", "link add %s type veth peer name %s netns %s" %
                    (outer, inner, self.name[label]), "link set %s up" % outer)
            self.ip(label, "link set %s up" % inner)

    def _client(self):
        lines = ["addr add 192.168.1.2/24 dev eth0", "addr add fd00:1::2/64 dev eth0 nodad",
                 "route add default via 192.168.1.1", "route add default via fd00:1::1"]
        lines += ["route add local 198.19.0.0/16 dev lo", "route add local 2001:db8:19::/48 dev lo"]
        for name, (label, a4, a6) in HOSTS.items():
            if label == "client" and name not in ("client", "crowd"):
                lines += ["addr add %s/32 dev lo" % a4, "addr add %s/128 dev lo" % a6]
        self.ip("client", *lines)

    def _world(self):
        self.ip("world", "addr add 192.0.2.2/24 dev eth0", "addr add fd00:2::2/64 dev eth0 nodad",
                "route add default via 192.0.2.1", "route add default via fd00:2::1",
                # all service addresses are at home here, for packets that the node does not translate
                *["route add local %s dev lo" % r for r in SERVICE_CIDRS + ELSEWHERE])

    def _pods(self):
        for pod in LOCAL_PODS + ("rpod",):
            self.ip(pod, "addr add %s/32 dev eth0" % addr(pod, 4),
                    "addr add %s/128 dev eth0 nodad" % addr(pod, 6),
                    "route add %s/32 dev eth0" % POD_GATEWAY[0], "route add default via " + POD_GATEWAY[0],
                    "route add %s/128 dev eth0" % POD_GATEWAY[1], "route add default via " + POD_GATEWAY[1])

    def _remote(self):
        lines = ["addr add 172.20.0.2/24 dev eth0", "addr add fd00:20::2/64 dev eth0 nodad",
                 "route add default via 172.20.0.1", "route add default via fd00:20::1"]
        for name, (label, a4, a6) in HOSTS.items():
            if label == "remote" and name != "remote":
                lines += ["addr add %s/32 dev lo" % a4, "addr add %s/128 dev lo" % a6]
        self.ip("remote", *lines)

    def _node(self):
        gw4, gw6 = POD_GATEWAY
        lines = ["link add cbr0 type bridge", "link set brpod2 master cbr0", "link set brpod3 master cbr0",
                 # with br_netfilter, a packet that is translated back to its own port is bridged, not routed
                 "link set brpod2 type bridge_slave hairpin on", "link set brpod3 type bridge_slave hairpin on",
                 "link set cbr0 up",
                 "addr add 192.168.1.1/24 dev toclient", "addr add 192.168.1.5/24 dev toclient",
                 "addr add fd00:1::1/64 dev toclient nodad", "addr add fd00:1::5/64 dev toclient nodad",
                 "addr add 192.0.2.1/24 dev toworld", "addr add fd00:2::1/64 dev toworld nodad",
                 "addr add 172.20.0.1/24 dev toremote", "addr add fd00:20::1/64 dev toremote nodad",
                 "route add default via 192.0.2.2", "route add default via fd00:2::2",
                 "route add 10.180.1.0/24 via 172.20.0.2", "route add fd00:180:0:1::/64 via fd00:20::2",
                 "route add 203.0.113.0/24 via 192.168.1.2", "route add 2001:db8:113::/48 via fd00:1::2",
                 "route add 198.18.0.0/15 via 192.168.1.2", "route add 2001:db8:18::/47 via fd00:1::2"]
        for dev in ("vethpod1", "cbr0", "torpod"):
            lines += ["addr add %s/32 dev %s" % (gw4, dev), "addr add %s/128 dev %s nodad" % (gw6, dev)]
        for pod, dev in (("pod1", "vethpod1"), ("pod2", "cbr0"), ("pod3", "cbr0"),
                         ("rpod", "torpod")):
            lines += ["route add %s/32 dev %s" % (addr(pod, 4), dev),
                      "route add %s/128 dev %s" % (addr(pod, 6), dev)]
        self.ip("node", *lines)

    def _servers(self):
        ports = {"world": WORLD_PORTS, "node": NODE_PORTS, "client": "8080"}
        argv = [os.path.join(TOOLS, "endpoints")]
        for label in self.namespaces:
            argv.append("%s=%s:%s" % (self.name[label], label, ports.get(label, POD_PORTS)))
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.processes.append(p)
        if p.stdout.readline() != "ready\n":
            raise netns.CommandFailed("%s did not start" % argv[0])
