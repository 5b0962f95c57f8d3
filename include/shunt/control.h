/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.h - what shunt and shuntd say to each other over the Unix socket.
 *
 * A request is one JSON object on one line:   {"object": "backend", "command": "show", "args": {"name": "gpu1"}}
 * A reply is one JSON object on one line:     {"result": ...}   or   {"error": "one sentence", "code": N}
 * `event monitor` is answered by {"result": {...}} lines, one an event, until the client closes.
 * The connection takes any number of requests, one after another.
 *
 * Results (times are nanoseconds of CLOCK_MONOTONIC in *_ns, RFC 3339 UTC in "time"; rates are the reader's business):
 *   vip show      [{name,address,protocol,port,pool,policy,hash,id,slots,packets,bytes,new_flows}]
 *   backend show  [{name,pool,id,address,forward,weight,domain,state,verdict,since,since_ns,packets,bytes,new_flows,
 *                   egress,mac,mtu,local}]            egress, mac, local: null while unresolved
 *   probe show    [{backend,address,state,rounds_asked,answers,loss_permille,rtt_us,last_answer_us,engine,agent_age_us}]
 *   stats show    {uptime_s,detector,interfaces:[{name,mode}],probe:{interval_us,multiplier,round,rounds_late,rounds_skipped,
 *                  late_max_us,ticks,tick_late_max_us},reasons:[{name,action,packets,meaning}]}
 *   slot show     {pool,slots,backends:[{name,owner,heir}]}; with args {"slot": N}: {pool,slot,owner,heir}
 *   event show    [event], oldest first; event: {time,at_ns,object,name,what,why,evidence:{...}}
 *   flow where    {vip,source,slot,owner,heir,backend,why}     args {"source":"A:P","vip":"NAME or A:P"}
 *   config show   {text}
 */
#ifndef SHUNT_CONTROL_H
#define SHUNT_CONTROL_H

#define SHUNT_CONTROL_SOCKET "/run/shunt/shuntd.sock"

/* "code" of an error: also the CLI's exit status. */
enum control_code {
	CONTROL_DONE = 0,
	CONTROL_REFUSED = 1, /* understood, but not possible: no such backend, not allowed, failed */
	CONTROL_MISUSE = 2, /* not understood: unknown object, command or argument */
};

/* A request's longest line, bytes, newline included. Longer ones are refused and the connection closed. */
#define CONTROL_REQUEST_MAX 65536

#endif
