/* What dpdk-sys takes from DPDK: its headers, what the shim adds to them, and constants that are macros
 * which bindgen cannot evaluate. */
#ifndef DPDK_SYS_WRAPPER_H
#define DPDK_SYS_WRAPPER_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <rte_version.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_flow.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_thash.h>

/* Where the fields are that are read and written without a call. As constants instead of a Rust struct:
 * DPDK moves fields in and out of anonymous unions between releases (24.07 dropped the markers), and
 * their names in a generated struct would move with them. Evaluated by libclang. */
enum dpdk_sys_mbuf_layout {
	DPDK_SYS_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	DPDK_SYS_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	DPDK_SYS_MBUF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	DPDK_SYS_MBUF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	DPDK_SYS_MBUF_PORT = offsetof(struct rte_mbuf, port),
	DPDK_SYS_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	DPDK_SYS_MBUF_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
	DPDK_SYS_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	DPDK_SYS_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	DPDK_SYS_MBUF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	DPDK_SYS_MBUF_VLAN_TCI_OUTER = offsetof(struct rte_mbuf, vlan_tci_outer),
	DPDK_SYS_MBUF_RSS_HASH = offsetof(struct rte_mbuf, hash.rss),
	DPDK_SYS_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	DPDK_SYS_MBUF_POOL = offsetof(struct rte_mbuf, pool),
	DPDK_SYS_MBUF_NEXT = offsetof(struct rte_mbuf, next),
	DPDK_SYS_MBUF_SIZE = sizeof(struct rte_mbuf),
	DPDK_SYS_MBUF_ALIGN = _Alignof(struct rte_mbuf),
};

/* The same as the C compiler of the shim sees it: (name of the field, offset, width in bytes), and a last
 * row whose name is null. The ABI test compares both. */
struct dpdk_sys_field {
	const char *name;
	uint32_t offset;
	uint32_t width;
};
const struct dpdk_sys_field *dpdk_sys_mbuf_fields(void);

/* (name of the struct, its alignment, its size), likewise. */
const struct dpdk_sys_field *dpdk_sys_structs(void);

/* The version of the headers that the shim was compiled with, as RTE_VERSION_NUM counts. */
uint32_t dpdk_sys_version(void);
static const uint32_t DPDK_SYS_VERSION = RTE_VERSION;
static const uint32_t DPDK_SYS_VERSION_22_11 = RTE_VERSION_NUM(22, 11, 0, 0);

/* 64-bit flags: RTE_BIT64 hides them from bindgen. */
static const uint64_t DPDK_SYS_TX_OFFLOAD_MBUF_FAST_FREE = RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE;
static const uint64_t DPDK_SYS_RX_VLAN = RTE_MBUF_F_RX_VLAN;
static const uint64_t DPDK_SYS_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t DPDK_SYS_RX_QINQ = RTE_MBUF_F_RX_QINQ;
static const uint64_t DPDK_SYS_RX_QINQ_STRIPPED = RTE_MBUF_F_RX_QINQ_STRIPPED;
static const uint64_t DPDK_SYS_RX_OFFLOAD_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t DPDK_SYS_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t DPDK_SYS_RSS_FRAG_IPV4 = RTE_ETH_RSS_FRAG_IPV4;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t DPDK_SYS_RSS_L3_SRC_ONLY = RTE_ETH_RSS_L3_SRC_ONLY;
static const uint64_t DPDK_SYS_RSS_L3_DST_ONLY = RTE_ETH_RSS_L3_DST_ONLY;
static const uint64_t DPDK_SYS_RSS_L4_SRC_ONLY = RTE_ETH_RSS_L4_SRC_ONLY;
static const uint64_t DPDK_SYS_RSS_L4_DST_ONLY = RTE_ETH_RSS_L4_DST_ONLY;
static const uint64_t DPDK_SYS_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t DPDK_SYS_RSS_FRAG_IPV6 = RTE_ETH_RSS_FRAG_IPV6;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV6_UDP = RTE_ETH_RSS_NONFRAG_IPV6_UDP;
static const uint64_t DPDK_SYS_RSS_NONFRAG_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;

/* Static inlines of DPDK, behind symbols. */
int dpdk_sys_errno(void);
unsigned int dpdk_sys_lcore_id(void);
uint64_t dpdk_sys_tsc(void);
struct rte_mbuf *dpdk_sys_pktmbuf_alloc(struct rte_mempool *pool);
void dpdk_sys_pktmbuf_free(struct rte_mbuf *mbuf);
uint32_t dpdk_sys_softrss(uint32_t *words, uint32_t count, const uint8_t *key);
uint16_t dpdk_sys_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t dpdk_sys_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* rte_eth_link, whose bit fields moved into a union in 24.11. */
struct dpdk_sys_link {
	uint32_t speed_mbps;
	uint8_t full_duplex;
	uint8_t up;
};
int dpdk_sys_eth_link_get_nowait(uint16_t port, struct dpdk_sys_link *link);

#endif
