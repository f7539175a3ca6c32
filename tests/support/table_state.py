"""What a vipmap table means, apart from how it came about.

An endpoint list may hold its endpoints in any order, chains for list lengths that nobody uses are
collected later, and affinity is memory of clients: two tables that differ in such things only are
the same. state() is a text to compare.
"""

import re
import subprocess

ENDPOINTS = re.compile(r"endpoints$")
IDLE = re.compile(r"(^|-)pick-\d+$")


def listing(family, netns=None):
    """The text of nft list table, "" if there is none."""
    command = ["ip", "netns", "exec", netns] if netns else []
    done = subprocess.run([*command, "nft", "list", "table", family, "vipmap"], capture_output=True, text=True,
                          check=False)
    return done.stdout


def blocks(text):
    """[("map", name, body)] of a table's listing."""
    return re.findall(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}", text, re.M | re.S)


def elements(body):
    found = re.search(r"elements = \{(.*?)\}\s*$", body, re.S | re.M)
    return [" ".join(e.split()) for e in re.split(r",\s+", found.group(1))] if found else []


def lists_of(name, items):
    """Endpoint lists without their order; an index that is missing or double is a line of its own."""
    lists, lines = {}, []
    for item in items:
        key, _, target = item.partition(" : ")
        key, _, index = key.rpartition(" . ")
        lists.setdefault(key, {})[int(index)] = target
    for key, entries in lists.items():
        if sorted(entries) != list(range(len(entries))):
            lines.append(f"{name} {key}: indices {sorted(entries)}")
        lines.append(f"{name} {key}: {sorted(entries.values())}")
    return lines


def state(text):
    lines = []
    for kind, name, body in blocks(text):
        head = re.sub(r"elements = \{.*?\}\s*$", "", body, flags=re.S | re.M)
        if kind == "chain" and IDLE.search(name):
            continue
        lines.append(f"{kind} {name}: {' '.join(head.split())}")
        if "dynamic" in head:
            continue
        if kind == "map" and ENDPOINTS.search(name):
            lines += lists_of(name, elements(body))
        else:
            lines += [f"{name}: {item}" for item in elements(body)]
    return "\n".join(sorted(lines)) + "\n"
