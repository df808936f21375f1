/* Symbols for the static inlines of DPDK, and its layouts as the C compiler sees them. No logic. */
#include "wrapper.h"

int dpdk_sys_errno(void)
{
	return rte_errno;
}

unsigned int dpdk_sys_lcore_id(void)
{
	return rte_lcore_id();
}

uint64_t dpdk_sys_tsc(void)
{
	return rte_rdtsc();
}

struct rte_mbuf *dpdk_sys_pktmbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void dpdk_sys_pktmbuf_free(struct rte_mbuf *mbuf)
{
	rte_pktmbuf_free(mbuf);
}

uint32_t dpdk_sys_softrss(uint32_t *words, uint32_t count, const uint8_t *key)
{
	return rte_softrss(words, count, key);
}

uint16_t dpdk_sys_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, mbufs, count);
}

uint16_t dpdk_sys_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, mbufs, count);
}

int dpdk_sys_eth_link_get_nowait(uint16_t port, struct dpdk_sys_link *link)
{
	struct rte_eth_link now;
	int error = rte_eth_link_get_nowait(port, &now);

	if (error == 0) {
		link->speed_mbps = now.link_speed;
		link->full_duplex = now.link_duplex;
		link->up = now.link_status;
	}
	return error;
}

uint32_t dpdk_sys_version(void)
{
	return RTE_VERSION;
}

#define FIELD(field) { #field, offsetof(struct rte_mbuf, field), sizeof(((struct rte_mbuf *)0)->field) }

const struct dpdk_sys_field *dpdk_sys_mbuf_fields(void)
{
	static const struct dpdk_sys_field fields[] = {
		FIELD(buf_addr), FIELD(data_off), FIELD(refcnt), FIELD(nb_segs), FIELD(port), FIELD(ol_flags),
		FIELD(packet_type), FIELD(pkt_len), FIELD(data_len), FIELD(vlan_tci), FIELD(vlan_tci_outer), FIELD(hash.rss), FIELD(buf_len),
		FIELD(pool), FIELD(next), { NULL, 0, 0 },
	};

	return fields;
}

#define STRUCT(name) { #name, _Alignof(struct name), sizeof(struct name) }

const struct dpdk_sys_field *dpdk_sys_structs(void)
{
	static const struct dpdk_sys_field structs[] = {
		STRUCT(rte_mbuf), STRUCT(rte_ether_addr), STRUCT(rte_eth_conf), STRUCT(rte_eth_rxconf),
		STRUCT(rte_eth_txconf), STRUCT(rte_eth_rss_conf), STRUCT(rte_eth_dev_info), STRUCT(rte_eth_stats),
		STRUCT(rte_flow_attr), STRUCT(rte_flow_item), STRUCT(rte_flow_action), STRUCT(rte_flow_action_rss),
		STRUCT(rte_flow_error), STRUCT(dpdk_sys_link), { NULL, 0, 0 },
	};

	return structs;
}
