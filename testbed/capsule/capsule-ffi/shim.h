/* DPDK's inline functions and macros under the names by which capsule links to them. */
#ifndef CAPSULE_FFI_SHIM_H
#define CAPSULE_FFI_SHIM_H

#include <stdint.h>

#include <rte_mbuf.h>
#include <rte_mempool.h>

int _rte_errno(void);
struct rte_mbuf *_rte_pktmbuf_alloc(struct rte_mempool *pool);
int _rte_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void _rte_pktmbuf_free(struct rte_mbuf *mbuf);
void _rte_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned int count);
uint16_t _rte_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
uint16_t _rte_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);

/* Ours: lets the KNI stand-ins say why they fail where DPDK would. */
void capsule_ffi_set_errno(int value);

#endif
