/* A kernel with IPVS for Debian's ipvsadm, where there is none: loaded before libnl, it writes down what ipvsadm would
 * have asked the kernel, and answers from a file.
 *
 * IPVS_ASKED    file that each question is added to, as `COMMAND` or `COMMAND:ATTRIBUTES` in hexadecimal.
 * IPVS_ANSWERS  file of lines `QUESTION ATTRIBUTES`: the attributes of a message that answers each question which
 *               begins so. A question about one service without an answer is refused.
 * IPVS_ERRNO    what changes are refused with; unset: they are made.
 * IPVS_CONNECTIONS  file that stands for /proc/net/ip_vs_conn. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nl_msg;
struct nl_sock;
extern struct nlmsghdr *nlmsg_hdr(struct nl_msg *);
extern struct nl_msg *nlmsg_convert(struct nlmsghdr *);
extern void nlmsg_free(struct nl_msg *);

enum { FAMILY = 0x20, GET_SERVICE = 4, GET_INFO = 15, VERSION = 1, TABLE_SIZE = 2 };

static int (*on_message)(struct nl_msg *, void *);
static void *message_argument;
static int (*on_error)(struct sockaddr_nl *, struct nlmsgerr *, void *);
static void *error_argument;
static char question[1 << 16];
static int command, dump;

int genl_connect(struct nl_sock *sock) { (void)sock; return 0; }

int genl_ctrl_resolve(struct nl_sock *sock, const char *name) { (void)sock; (void)name; return FAMILY; }

int nl_socket_modify_cb(struct nl_sock *sock, int type, int kind, int (*func)(struct nl_msg *, void *), void *arg)
{
	(void)sock; (void)type; (void)kind;
	on_message = func;
	message_argument = arg;
	return 0;
}

int nl_socket_modify_err_cb(struct nl_sock *sock, int kind, int (*func)(struct sockaddr_nl *, struct nlmsgerr *, void *),
			    void *arg)
{
	(void)sock; (void)kind;
	on_error = func;
	error_argument = arg;
	return 0;
}

int nl_send_auto_complete(struct nl_sock *sock, struct nl_msg *msg)
{
	struct nlmsghdr *header = nlmsg_hdr(msg);
	struct genlmsghdr *generic = NLMSG_DATA(header);
	const unsigned char *attributes = (const unsigned char *)(generic + 1);
	size_t length = header->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
	const char *path = getenv("IPVS_ASKED");
	char *end = question;
	FILE *asked;

	(void)sock;
	command = generic->cmd;
	dump = (header->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	end += sprintf(end, "%d%s", command, length ? ":" : "");
	for (size_t i = 0; i < length; i++)
		end += sprintf(end, "%02x", attributes[i]);
	if (path && command != GET_INFO && (asked = fopen(path, "a"))) {
		fprintf(asked, "%s\n", question);
		fclose(asked);
	}
	return 0;
}

static int refuse(int number)
{
	struct nlmsgerr error = { .error = -number };

	on_error(NULL, &error, error_argument);
	return -1;
}

static void deliver(const void *attributes, size_t length)
{
	char buffer[1 << 14] __attribute__((aligned(8))) = { 0 };
	struct nlmsghdr *header = (struct nlmsghdr *)buffer;
	struct nl_msg *msg;

	header->nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN + length;
	header->nlmsg_type = FAMILY;
	memcpy(buffer + NLMSG_HDRLEN + GENL_HDRLEN, attributes, length);
	msg = nlmsg_convert(header);
	on_message(msg, message_argument);
	nlmsg_free(msg);
}

static int answers(void)
{
	const char *path = getenv("IPVS_ANSWERS");
	FILE *file = path ? fopen(path, "r") : NULL;
	static char line[1 << 16];
	int count = 0;

	while (file && fgets(line, sizeof(line), file)) {
		static unsigned char attributes[1 << 14];
		char *hex = strchr(line, ' ');
		size_t length = 0;
		unsigned int byte;

		*hex++ = '\0';
		if (strncmp(question, line, strlen(line)))
			continue;
		for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
			attributes[length++] = byte;
		deliver(attributes, length);
		count++;
	}
	if (file)
		fclose(file);
	return count;
}

int nl_recvmsgs_default(struct nl_sock *sock)
{
	const char *number = getenv("IPVS_ERRNO");
	/* IPVS 1.2.1, a table of 4096. */
	static const unsigned int info[] = { 8 | VERSION << 16, 0x10201, 8 | TABLE_SIZE << 16, 4096 };

	(void)sock;
	switch (command) {
	case GET_INFO:
		deliver(info, sizeof(info));
		return 0;
	case GET_SERVICE:
		return answers() || dump ? 0 : refuse(ESRCH);
	case 8: case 11: case 13:
		answers();
		return 0;
	default:
		return number ? refuse(atoi(number)) : 0;
	}
}

FILE *fopen(const char *path, const char *mode)
{
	FILE *(*next)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");
	const char *connections = getenv("IPVS_CONNECTIONS");

	return next(connections && !strcmp(path, "/proc/net/ip_vs_conn") ? connections : path, mode);
}
