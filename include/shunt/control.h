/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * control.h - what shunt and shuntd say to each other over the Unix socket.
 *
 * A request is one JSON object on one line:   {"object": "backend", "command": "show", "args": {"name": "gpu1"}}
 * A reply is one JSON object on one line:     {"result": ...}   or   {"error": "one sentence", "code": N}
 * `event monitor` is answered by {"result": {...}} lines, one an event, until the client closes.
 * The connection takes any number of requests, one after another, each answered in turn. Unknown keys and arguments
 * are errors; "args" may be left out.
 *
 * Results (times are nanoseconds of CLOCK_MONOTONIC in *_ns, RFC 3339 UTC in "time" and "since"; rates are the
 * reader's business; what is not known is null; traffic counts from the start of shuntd):
 *   vip show      [{name,address,protocol,port,pool,policy,hash,id,slots,packets,bytes,new_flows}]    args {"name"}
 *                   port 0: every port
 *   backend show  [{name,pool,id,address,forward,weight,domain,state,verdict,since,since_ns,packets,bytes,new_flows,
 *                   egress,mac,mtu,local}]            egress, mac, mtu, local: null while unresolved   args {"name"}
 *   probe show    [{backend,address,state,rounds_asked,answers,loss_permille,rtt_us,last_answer_us,engine,
 *                   agent_age_us}]                    args {"name"} of the backend
 *   stats show    {uptime_s,detector,interfaces:[{name,mode}],probe:{interval_us,multiplier,round,rounds_late,
 *                   rounds_skipped,send_errors,late_max_us,ticks,tick_late_max_us,suspect_since_ns},
 *                  reasons:[{name,action,packets,meaning}]}
 *                   suspect_since_ns: all silent and no witness since then; null: no
 *   slot show     [{pool,slots,backend,owner,heir}]: how many of its pool's slots a backend has    args {"pool"}
 *                   with args {"pool","slot":N}: {pool,slot,owner,heir,succession:[name, ...]}, owner first
 *   event show    [event], oldest first                              args {"from":N}: number N and later ones
 *   event monitor event, as they happen                              args {"from":N}: those that are kept first
 *                   event: {number,time,at_ns,object,name,what,why,evidence:{...},text}
 *   flow where    {vip,source,slot,owner,heir,backend,why}           args {"source":"A:P","vip":"NAME or A:P"}
 *                   backend: null if nobody would get the flow
 *   config show   {text}                                             the running configuration; it parses again
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

/* Clients at a time, chosen. One more takes the place of the one that was silent longest; monitors keep theirs. */
#define CONTROL_CLIENTS_MAX 64
#define CONTROL_MONITORS_MAX 32

/* A reply not taken, or a request not finished, for so long closes the connection. */
#define CONTROL_PATIENCE_MS 5000

/* Bytes that may wait for a monitor that doesn't read; then it is cut off. */
#define CONTROL_MONITOR_BACKLOG_MAX 1048576

#endif
