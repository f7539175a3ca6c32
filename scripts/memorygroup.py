"""A control group for memory, of version 1 or 2, below the one that this process is in."""
import os


class MemoryGroup:
    """Counts and limits the memory of the processes in it, and what the kernel keeps for them; path None where none
    can be made."""

    def __init__(self):
        self.path, self.v2 = None, True
        with open("/proc/self/cgroup") as f:
            own = {line.split(":")[1]: line.rstrip("\n").split(":", 2)[2] for line in f}
        places = [("/sys/fs/cgroup" + own.get("", "/"), True), ("/sys/fs/cgroup", True)]
        if "memory" in own:
            places.insert(0, ("/sys/fs/cgroup/memory" + own["memory"], False))
        for place, v2 in places:
            path = os.path.join(place, "vipmap-%d" % os.getpid())
            try:
                os.mkdir(path)
            except OSError:
                continue
            if os.path.exists(os.path.join(path, "memory.max" if v2 else "memory.limit_in_bytes")):
                self.path, self.v2 = path, v2
                return
            os.rmdir(path)

    def read(self, name):
        with open(os.path.join(self.path, name)) as f:
            return f.read()

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def join(self):
        """This process is in it from now on."""
        if self.path:
            self.write("cgroup.procs", os.getpid())

    def kernel(self):
        """Bytes that the kernel keeps for it: nftables' objects outlive the process that made them."""
        if not self.v2:
            return int(self.read("memory.kmem.usage_in_bytes"))
        return int(dict(line.split() for line in self.read("memory.stat").splitlines()).get("kernel", 0))

    def used(self):
        return int(self.read("memory.current" if self.v2 else "memory.usage_in_bytes"))

    def limit(self, most):
        """Bytes, or None for no limit."""
        if self.v2:
            self.write("memory.max", "max" if most is None else most)
        else:
            self.write("memory.limit_in_bytes", -1 if most is None else most)

    def reached(self):
        """How often the limit was."""
        if self.v2:
            return int(dict(line.split() for line in self.read("memory.events").splitlines())["max"])
        return int(self.read("memory.failcnt"))

    def killed(self):
        """How many processes the kernel has ended for it."""
        events = self.read("memory.events" if self.v2 else "memory.oom_control")
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])

    def remove(self):
        if self.path:
            os.rmdir(self.path)
