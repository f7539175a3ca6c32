"""Packets that no socket of this kernel makes (SCTP, ICMP echo), and sniffing for what arrives where."""
import select
import socket
import struct
import time

from . import netns

ETH_P_ALL = 3
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
SCTP = 132

_table = []
for _n in range(256):
    _c = _n
    for _ in range(8):
        _c = (_c >> 1) ^ (0x82F63B78 if _c & 1 else 0)
    _table.append(_c)


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc = (crc >> 8) ^ _table[(crc ^ b) & 0xFF]
    return crc ^ 0xFFFFFFFF


def sctp_init(sport, dport, tag=0x12345678):
    """An SCTP packet with one INIT chunk."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, tag, 65536, 1, 1, tag)
    header = struct.pack("!HHI", sport, dport, 0)
    return header + struct.pack("<I", crc32c(header + b"\0\0\0\0" + chunk)) + chunk


def sctp_checksum_right(packet):
    return struct.unpack_from("<I", packet, 8)[0] == crc32c(packet[:8] + b"\0\0\0\0" + packet[12:])


def internet_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send_sctp(ns, family, source, sport, destination, dport):
    with netns.inside(ns):
        s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, SCTP)
    with s:
        if source:
            s.bind((source, 0))
        try:
            s.sendto(sctp_init(sport, dport), (destination, 0))
        except PermissionError:
            pass  # dropped or rejected on the way out (VER-17)


IDENT = iter(range(9000, 60000))  # of echo requests


def send_echo(ns, family, source, destination, ident, sequence=1):
    with netns.inside(ns):
        s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW,
                          socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6)
    with s:
        if source:
            s.bind((source, 0))
        body = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, ident, sequence) + b"vipmap"
        if family == 4:
            body = body[:2] + struct.pack("!H", internet_sum(body)) + body[4:]
        try:
            s.sendto(body, (destination, 0))
        except PermissionError:
            pass


class Seen:
    """One IP packet. For an ICMP error, `inner` is the packet it complains about."""

    def __init__(self, data):
        if data[0] >> 4 == 4:
            self.family, self.proto, size = 4, data[9], (data[0] & 15) * 4
            self.src, self.dst = socket.inet_ntop(2, data[12:16]), socket.inet_ntop(2, data[16:20])
        else:
            self.family, self.proto, size = 6, data[6], 40
            self.src, self.dst = socket.inet_ntop(10, data[8:24]), socket.inet_ntop(10, data[24:40])
        self.payload = data[size:]
        self.inner = self.type = self.code = self.sport = self.dport = self.ident = None
        if self.proto in (1, 58) and len(self.payload) >= 8:
            self.type, self.code, self.ident = struct.unpack_from("!BBxxH", self.payload)
            errors = (3, 11) if self.proto == 1 else (1, 2, 3)
            if self.type in errors and len(self.payload) > 28:
                self.inner = Seen(self.payload[8:])
        elif len(self.payload) >= 4:
            self.sport, self.dport = struct.unpack_from("!HH", self.payload)

    def __str__(self):
        what = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp6"}.get(self.proto, self.proto)
        if self.type is not None:
            return "%s %s/%s %s > %s" % (what, self.type, self.code, self.src, self.dst)
        return "%s %s:%s > %s:%s" % (what, self.src, self.sport, self.dst, self.dport)


class Sniffer:
    """Sees every packet that enters a namespace while the block runs."""

    def __init__(self, *namespaces):
        self.sockets = {}
        for ns in namespaces:
            with netns.inside(ns):
                s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
            s.setblocking(False)
            self.sockets[s] = ns
        self.seen = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for s in self.sockets:
            s.close()

    def collect(self, want, seconds):
        """Reads until want(namespace, packet) is true for one packet or time is up; that packet or None."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            ready, _, _ = select.select(list(self.sockets), [], [], left)
            for s in ready:
                data, where = s.recvfrom(4096)
                if where[1] not in (ETH_P_IP, ETH_P_IPV6) or where[2] == socket.PACKET_OUTGOING:
                    continue
                p = Seen(data)
                self.seen.append((self.sockets[s], p))
                if want(self.sockets[s], p):
                    return self.sockets[s], p
