/*
 * flood: what a packet costs a node, in nanoseconds of CPU time.
 *
 *	flood ROUNDS FLOWS NAME:NETNS:TARGETS...
 *
 * Each lane is a network namespace that plays a node, prepared by the caller:
 * clients' packets come in by a veth pair, sent at "in0" and received at "in1";
 * by the default route they leave for the tun device "out0", whose queue nobody
 * empties while the clock runs, so that they end there. TARGETS is a file of
 * lines "ADDRESS PORT".
 *
 * A packet sent on a veth runs the node's whole receive path, conntrack, NAT,
 * routing and transmission, before the system call that sent it goes on to the
 * next one: the CPU time of this thread around sendmmsg() of CHUNK packets is
 * what they cost, whatever else the machine does. Lanes take turns every CHUNK
 * packets, so that the machine's moods meet all of them.
 *
 * Prints a line per lane, round and kind: "KIND NAME ROUND NS-PER-PACKET", from
 * the round's quickest chunk, since strangers only ever add. Kinds: "new" (the
 * first packet of a flow) and "established" (a flow that has seen packets both
 * ways). A line "failed NAME ROUND NUMBER" tells how many of these flows could
 * not be established, of 4,000; 10 means that the lane lets nothing through.
 * All packets are UDP with a right checksum, from 10.180.0.0/16.
 *
 * Regret: the cost of sending is in every figure. The caller has a lane that
 * drops packets on entry to know it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	CHUNK = 4096, /* long enough to forget what the lane before left in the caches */
	BATCH = 1024, /* the most that sendmmsg() takes (UIO_MAXIOV) */
	ESTABLISHED_FLOWS = 4000,
	PAYLOAD = 32,
};

struct packet {
	uint16_t padding; /* so that the addresses are aligned */
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
	char payload[PAYLOAD];
};

struct target {
	uint32_t addr_be;
	uint16_t port_be;
};

struct lane {
	const char *name;
	int in, out;
	unsigned char mac[ETH_ALEN]; /* node's end of the way in */
	int netns;
	unsigned int n_targets;
	struct target *targets;
	struct packet *flows; /* ESTABLISHED_FLOWS of them */
	double *chunks;	      /* ns per packet, of the current round */
};

enum {
	IP_OFFSET = offsetof(struct packet, ip),
	IP_SIZE = sizeof(struct packet) - IP_OFFSET,
	FRAME_OFFSET = offsetof(struct packet, eth),
	FRAME_SIZE = sizeof(struct packet) - FRAME_OFFSET,
};

/* What the timed loops send, prepared before the clock starts. */
struct scratch {
	uint64_t seed;
	struct packet packets[CHUNK];
	struct iovec iov[CHUNK];
	struct mmsghdr messages[CHUNK];
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("calloc");
	return p;
}

static uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return *state = x;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint32_t sum16(const void *data, size_t size, uint32_t sum)
{
	uint16_t word;

	for (size_t i = 0; i + 1 < size; i += 2) {
		memcpy(&word, (const char *)data + i, sizeof(word));
		sum += word;
	}
	return sum;
}

static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void packet_fill(struct packet *p, uint32_t saddr, uint16_t sport,
			uint32_t daddr, uint16_t dport)
{
	uint32_t sum;

	memset(p, 0, sizeof(*p));
	p->eth.h_proto = htons(ETH_P_IP);
	p->ip.version = 4;
	p->ip.ihl = 5;
	p->ip.tot_len = htons(IP_SIZE);
	p->ip.ttl = 64;
	p->ip.protocol = IPPROTO_UDP;
	p->ip.saddr = saddr;
	p->ip.daddr = daddr;
	p->ip.check = fold(sum16(&p->ip, sizeof(p->ip), 0));
	p->udp.source = sport;
	p->udp.dest = dport;
	p->udp.len = htons(IP_SIZE - sizeof(p->ip));
	sum = sum16(&p->ip.saddr, 8, htons(IPPROTO_UDP) + p->udp.len);
	p->udp.check = fold(sum16(&p->udp, IP_SIZE - sizeof(p->ip), sum));
}

/* A client that is in no other flow of this round, as good as certainly. */
static void packet_fill_random(struct packet *p, const struct lane *lane,
			       uint64_t *seed)
{
	uint64_t r = random_next(seed);
	uint32_t saddr = 10u << 24 | 180u << 16 | (r & 0xffff);
	const struct target *t = &lane->targets[(r >> 32) % lane->n_targets];

	packet_fill(p, htonl(saddr), htons((uint16_t)(1024 + (r >> 16 & 0x7fff))),
		    t->addr_be, t->port_be);
}

/* Sends the first @n of scratch->packets and returns nanoseconds per packet. */
static double send_packets(const struct lane *lane, struct scratch *scratch,
			   unsigned int n)
{
	uint64_t start;

	for (unsigned int i = 0; i < n; i++) {
		struct msghdr *hdr = &scratch->messages[i].msg_hdr;

		memcpy(scratch->packets[i].eth.h_dest, lane->mac, ETH_ALEN);
		scratch->iov[i] =
			(struct iovec){ &scratch->packets[i].eth, FRAME_SIZE };
		hdr->msg_iov = &scratch->iov[i];
		hdr->msg_iovlen = 1;
	}
	start = cpu_ns();
	for (unsigned int i = 0; i < n; i += BATCH) {
		unsigned int batch = n - i < BATCH ? n - i : BATCH;

		if (sendmmsg(lane->in, scratch->messages + i, batch, 0) != (int)batch)
			die("sendmmsg on in0");
	}
	return (double)(cpu_ns() - start) / n;
}

static void lane_enter(const struct lane *lane)
{
	if (setns(lane->netns, CLONE_NEWNET))
		die("setns");
}

/*
 * As `conntrack -F`. All namespaces share one hash table: lanes that find more
 * entries in it, of their own or of others, pay more for each new flow.
 */
static void lane_forget_flows(const struct lane *lane)
{
	struct {
		struct nlmsghdr nlh;
		struct nfgenmsg nfg;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 |
				       IPCTNL_MSG_CT_DELETE,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
		.nfg = { .nfgen_family = AF_INET },
	};
	char reply[256];
	int fd;

	lane_enter(lane);
	fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	if (fd < 0 || send(fd, &request, sizeof(request), 0) < 0 ||
	    recv(fd, reply, sizeof(reply), 0) < 0)
		die("flush of conntrack");
	close(fd);
}

static void read_targets(struct lane *lane, const char *path)
{
	unsigned int room = 0, port;
	struct in_addr addr;
	char text[64];
	FILE *f = fopen(path, "r");

	if (!f)
		die(path);
	while (fscanf(f, "%63s %u", text, &port) == 2) {
		if (lane->n_targets == room) {
			room = room ? room * 2 : 1024;
			lane->targets = realloc(lane->targets,
						room * sizeof(*lane->targets));
			if (!lane->targets)
				die("realloc");
		}
		if (!inet_aton(text, &addr))
			die(path);
		lane->targets[lane->n_targets++] =
			(struct target){ addr.s_addr, htons((uint16_t)port) };
	}
	fclose(f);
	if (!lane->n_targets)
		die(path);
}

/* A tun device whose queue was just opened drops packets until the kernel has
 * noticed, asynchronously. */
static void wait_until_running(const char *interface)
{
	const struct timespec nap = { .tv_nsec = 10 * 1000 * 1000 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, interface, strlen(interface) + 1);
	for (int i = 0; i < 300 && !(ifr.ifr_flags & IFF_RUNNING); i++) {
		nanosleep(&nap, NULL);
		if (ioctl(fd, SIOCGIFFLAGS, &ifr))
			die(interface);
	}
	close(fd);
}

static int open_out(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "out0" };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die("out0");
	wait_until_running("out0");
	return fd;
}

static int open_in(unsigned char *peer_mac)
{
	struct sockaddr_ll sll = { .sll_family = AF_PACKET };
	struct ifreq ifr = { .ifr_name = "in1" };
	int one = 1, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	sll.sll_ifindex = (int)if_nametoindex("in0");
	if (fd < 0 || bind(fd, (struct sockaddr *)&sll, sizeof(sll)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) ||
	    ioctl(fd, SIOCGIFHWADDR, &ifr))
		die("in0");
	memcpy(peer_mac, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	return fd;
}

static void lane_open(struct lane *lane, char *spec, size_t max_chunks)
{
	char path[256];
	char *netns = strchr(spec, ':');
	char *targets = netns ? strchr(netns + 1, ':') : NULL;

	if (!targets) {
		errno = EINVAL;
		die(spec);
	}
	*netns++ = *targets++ = '\0';
	lane->name = spec;
	read_targets(lane, targets);
	lane->flows = xcalloc(ESTABLISHED_FLOWS, sizeof(*lane->flows));
	lane->chunks = xcalloc(max_chunks, sizeof(*lane->chunks));

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	lane->netns = open(path, O_RDONLY | O_CLOEXEC);
	if (lane->netns < 0)
		die(path);
	lane_enter(lane);
	lane->out = open_out();
	lane->in = open_in(lane->mac);
}

static double least(const double *values, size_t n)
{
	double min = values[0];

	for (size_t i = 1; i < n; i++)
		if (values[i] < min)
			min = values[i];
	return min;
}

static void report(const char *kind, const struct lane *lane,
		   unsigned int round, size_t n_chunks)
{
	printf("%s %s %u %.1f\n", kind, lane->name, round,
	       least(lane->chunks, n_chunks));
	fflush(stdout);
}

static double new_chunk(const struct lane *lane, struct scratch *scratch)
{
	double ns;

	for (int i = 0; i < CHUNK; i++)
		packet_fill_random(&scratch->packets[i], lane, &scratch->seed);
	ns = send_packets(lane, scratch, CHUNK);
	lane_forget_flows(lane);
	return ns;
}

static double established_chunk(const struct lane *lane, struct scratch *scratch)
{
	for (int i = 0; i < CHUNK; i++) {
		uint64_t r = random_next(&scratch->seed) >> 20;

		scratch->packets[i] = lane->flows[r % ESTABLISHED_FLOWS];
	}
	return send_packets(lane, scratch, CHUNK);
}

/*
 * The oldest packet that left the node; false if there is none. Waits a little,
 * since the kernel may have left the packet to a thread of its own.
 */
static bool receive_packet(const struct lane *lane, struct packet *p)
{
	struct pollfd pollfd = { .fd = lane->out, .events = POLLIN };

	return poll(&pollfd, 1, 100) == 1 &&
	       read(lane->out, (char *)p + IP_OFFSET, IP_SIZE) == IP_SIZE;
}

static void drain(const struct lane *lane)
{
	char old[2048];

	while (read(lane->out, old, sizeof(old)) > 0)
		;
}

/* Whether the flow's packet came out at the other side, and its answer as well. */
static bool establish_flow(const struct lane *lane, struct scratch *scratch,
			   const struct packet *p)
{
	struct packet out;

	scratch->packets[0] = *p;
	send_packets(lane, scratch, 1);
	if (!receive_packet(lane, &out))
		return false;
	packet_fill(&scratch->packets[0], out.ip.daddr, out.udp.dest,
		    out.ip.saddr, out.udp.source);
	send_packets(lane, scratch, 1);
	return receive_packet(lane, &out) && out.ip.daddr == p->ip.saddr &&
	       out.ip.saddr == p->ip.daddr;
}

/* Gives up on the lane at the tenth failure: then it is one that lets nothing through. */
static void establish_flows(const struct lane *lane, struct scratch *scratch,
			    unsigned int round)
{
	unsigned int n_failed = 0;

	drain(lane);
	for (int i = 0; i < ESTABLISHED_FLOWS; i++) {
		packet_fill_random(&lane->flows[i], lane, &scratch->seed);
		if (n_failed < 10 &&
		    !establish_flow(lane, scratch, &lane->flows[i])) {
			n_failed++;
			drain(lane);
		}
	}
	printf("failed %s %u %u\n", lane->name, round, n_failed);
}

static void run_kind(const char *kind,
		     double (*chunk)(const struct lane *, struct scratch *),
		     struct lane *lanes, unsigned int n_lanes, unsigned int round,
		     unsigned int n_chunks, struct scratch *scratch)
{
	for (unsigned int i = 0; i < n_chunks; i++)
		for (unsigned int l = 0; l < n_lanes; l++)
			lanes[l].chunks[i] = chunk(&lanes[l], scratch);
	for (unsigned int l = 0; l < n_lanes; l++)
		report(kind, &lanes[l], round, n_chunks);
}

static void run_round(struct lane *lanes, unsigned int n_lanes, unsigned int round,
		      unsigned int n_chunks, struct scratch *scratch)
{
	for (unsigned int l = 0; l < n_lanes; l++)
		lane_forget_flows(&lanes[l]);
	run_kind("new", new_chunk, lanes, n_lanes, round, n_chunks, scratch);
	for (unsigned int l = 0; l < n_lanes; l++)
		establish_flows(&lanes[l], scratch, round);
	run_kind("established", established_chunk, lanes, n_lanes, round,
		 n_chunks, scratch);
}

static void settle_on_one_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
	setpriority(PRIO_PROCESS, 0,
		    -20); /* fewer strangers in the cache; works without as well */
}

int main(int argc, char **argv)
{
	unsigned int n_lanes = argc > 3 ? (unsigned int)argc - 3 : 0;
	unsigned int rounds, n_chunks;
	struct scratch *scratch = xcalloc(1, sizeof(*scratch));
	struct lane *lanes;

	if (!n_lanes) {
		fprintf(stderr,
			"usage: flood ROUNDS FLOWS NAME:NETNS:TARGETS...\n");
		return 2;
	}
	rounds = (unsigned int)strtoul(argv[1], NULL, 10);
	n_chunks = (unsigned int)(strtoul(argv[2], NULL, 10) + CHUNK - 1) / CHUNK;
	scratch->seed = (uint64_t)time(NULL) << 20 | (uint64_t)getpid();
	lanes = xcalloc(n_lanes, sizeof(*lanes));
	for (unsigned int l = 0; l < n_lanes; l++)
		lane_open(&lanes[l], argv[3 + l], n_chunks);
	settle_on_one_cpu();
	for (unsigned int round = 0; round < rounds; round++)
		run_round(lanes, n_lanes, round, n_chunks, scratch);
	return 0;
}
