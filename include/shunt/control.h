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
 * reader's business; what is not known is null; traffic counts from when the maps were made, which may be an earlier shuntd):
 *   vip show      [{name,address,protocol,port,pool,policy,hash,id,slots,packets,bytes,new_flows,policed,
 *                   on_failure,syn_limit,held,held_by}]       args {"name"}
 *                   port 0: every port; policed: SYNs above syn_limit; syn_limit: {rate,burst,prefix,action} or null; held: its address is one of this
 *                   host, held_by: on this interface, or null; held is null where no shuntd runs
 *   backend show  [{name,pool,id,address,forward,weight,configured_weight,domain,state,verdict,since,since_ns,packets,bytes,new_flows,
 *                   egress,mac,mtu,local,live,failures,detours,doubted,draining,deadline_us,drained,cut,hold_us,hold_left_us}]
 *                                                     args {"name"}
 *                   egress, mac, mtu, local: null while unresolved; live: open flows that it serves; failures: verdicts
 *                   that took it down since shuntd started; detours: flows whose
 *                   slot it owns and that are looked up; doubted: it is down, and has its flows yet: it may only be late; draining: why, or null; deadline_us: until the rest is cut, or
 *                   null; drained: true when its draining is over; cut: flows that were reset at the deadline, or null;
 *                   hold_us: it is down and has to answer for so long before it is up; hold_left_us: what is left of
 *                   that, null while it doesn't answer. Of the one that args name also: availability
 *   backend drain {name,state,live,draining,deadline_us,drained,cut,notes:["..."],text}
 *                                                     args {"name","within_ns":N}: what is left by then is reset. Not
 *                   waited for: `backend show` tells how it goes. notes: what is unusual about it
 *   backend undrain the same                          args {"name"}
 *   backend set   {name,weight,configured_weight,text}               args {"name","weight":N}; 0: the configured one
 *   probe show    [{backend,pool,address,check,interval_us,configured_interval_us,state,verdict,since_ns,evidence,hold_us,
 *                   hold_left_us,rounds_asked,answers,too_late,forged,late,loss_permille,rounds_to_convict,rtt_us,last_answer_us,
 *                   window_us,window_asked,window_answers,window_loss_permille,rtt_p50_us,rtt_p99_us,engine,full,in_flight,queued,
 *                   agent_age_us,agent_version}]      args {"name"} of the backend
 *                   check: {type,text}; text: how a check that is not by probes stands, for people, else "";
 *                   interval_us: in force for heartbeats and echoes;
 *                   evidence: that of the event of its newest verdict; hold_us, hold_left_us: as of `backend show`;
 *                   too_late: answers after 64 rounds; forged: without a tag of ours; neither counts for anything; late: how
 *                   often it was found silent, and answered before its connections were given up;
 *                   rounds_to_convict: unanswered in a row, more than the multiplier where rounds get lost; rtt_us: of
 *                   the newest answer; window_us: what follows is of this time only, 10 to 20 s;
 *                   rtt_p50_us, rtt_p99_us: up to 25 % too high; full: it takes no more requests; in_flight, queued:
 *                   requests, as its agent says; agent_version: of the probe's layout, another than ours says nothing more
 *   stats show    {now_ns,uptime_s,detector,health,ill_because,track_file,
 *                  vrrp:[{name,group,state,priority,since_ns}],interfaces:[{name,mode}],probe:{interval_us,multiplier,round,rounds_late,
 *                   rounds_skipped,send_errors,late_max_us,ticks,tick_late_max_us,suspect_since_ns,
 *                   configured_interval_us,round_cost_us},
 *                  flows:{capacity,in_use,opened,full,looked_up},reasons:[{name,action,packets,meaning}]}
 *                   uptime_s, detector: null where no shuntd runs; health: "well" or "ill", not fit to have the VIPs; ill_because: one sentence, or null; track_file: what
 *                   keepalived is told, 0 (well), 1, or null: none; vrrp: what keepalived said last of each instance and
 *                   group: state master, backup, fault, stop, deleted or null: only its priority is known;
 *                   interval_us: in force; longer than configured_interval_us where that can't be kept;
 *                   round_cost_us: what sending a round takes; suspect_since_ns: all silent and no witness since then,
 *                   null: no. flows: entries of the journal, those in use as far as is known, flows recorded, flows not recorded because it was full,
 *                   packets looked up
 *   stats metrics {text}                                             all figures as OpenMetrics 1.0
 *   slot show     [{pool,slots,backend,owner,heir}]: how many of its pool's slots a backend has    args {"pool"}
 *                   with args {"pool","slot":N}: {pool,slot,owner,heir,succession:[name, ...]}, owner first
 *   pool show     [{name,slots,backends,up,draining,down,live,heirs_changed,rebuilt,rebuilt_ns,max_soft_eject_percent,
 *                   availability}]                    args {"name"}
 *                   backends, up, draining, down: how many, and in which state; live: open flows; heirs_changed: slots, by the
 *                   newest change of the living; rebuilt: when its table was last swapped, also as rebuilt_ns, or null
 *                   availability: {since,FIGURES}, since the record began, null where no shuntd runs, as is heirs_changed; FIGURES: availability_percent,failures,mttf_us,
 *                   mttr_us,up_us,down_us,drained_us,unknown_us, as shunt-event(8) defines them
 *   event show    [event], oldest first               args {"from":N}: number N and later ones; {"since":"1h" or RFC 3339};
 *                   {"object","name","what"}: those alone
 *   event summary {since,window_us,pools:[{name,FIGURES}],backends:[{name,pool,state,FIGURES}],failovers:[{number,time,
 *                   backend,verdict,pool,down,detector,fault_us,learnt_us,first_heir_us,flows_told,flows_reset,told_us,
 *                   table_us,outage_us}]}             args {"since":"24h" or RFC 3339}: what is known of that time
 *                   since, window_us: what it is about; failovers: of those events that `event show` has
 *   event monitor event, as they happen                              args {"from":N}: those that are kept first
 *                   event: {number,time,at_ns,boot,object,name,what,why,evidence:{...},text}
 *                   boot: the run of the kernel that at_ns is of, as in /proc/sys/kernel/random/boot_id
 *                   evidence: with "replaced": true it is about a removed backend whose name is another's by now
 *   flow where    {vip,source,slot,owner,heir,backend,why,recorded}  args {"source":"A:P","vip":"NAME or A:P"}
 *                   backend: who gets its packets, null: nobody; recorded: the flow as in `flow show`, or null, and then
 *                   it is about a new one
 *   flow show     {flows:[{client,service,vip,backend,owner,state,detour,confirmed,reset,copy,opened_ns,seen_ns,ingress}],
 *                   next}
 *                                                     args FILTER,{"limit":N,"from":N}
 *                   state: open, closing (the client's FIN was seen), closed; copy: the peer's flow, its packets come there;
 *                   seen_ns: newest packet that was looked up
 *   flow count    {counts:[{backend,open,closing,closed,detours}],next}            args FILTER,{"from":N}
 *                   A page each: `next` is the `from` of the page after it, null where there is none.
 *                   FILTER: {"vip","backend","client":"A[/PREFIX][:PORT]","state","detours":true}, all of those given
 *   flow reset    {reset,text}                                       args FILTER or {"all":true}
 *                   reset: how many flows were ended; their clients are told meanwhile
 *   peer show     [{address,state,since_ns,lag_us,rtt_us,run,peer_run,version,peer_version,flows_sent,flows_received,
 *                   flows_refused_full,flows_refused_unknown,resyncs,datagrams_sent,datagrams_received,bytes_sent,
 *                   bytes_received,lost,send_errors,forged,replayed,truncated,other_version}]: one, or none
 *                   state: down, resyncing, in sync; lag_us: the oldest change that the peer hasn't acknowledged is at most
 *                   so old, 0: there is none, null: down; runs: of the connection, null: down; versions: of the protocol;
 *                   flows_*: changes of flows, refused ones are what came and found no room, or no such VIP or backend
 *                   here; resyncs: times that everything was told; lost: datagrams with changes that had to be told anew;
 *                   send_errors: datagrams that this host didn't send; forged to other_version: datagrams dropped,
 *                   replayed: repeated, overtaken, or of another connection
 *   daemon show   {version,pid,uptime_s,config,pin,not_pinned_because,start,generation,maps_age_s,runs,layout,
 *                  interfaces:[{name,attached,mode,program}]}
 *                   pin: the directory, null: nothing outlives shuntd, because of not_pinned_because; start: "took over" (went
 *                   on with the maps of an earlier run), "began anew" (with others, as those didn't fit) or "first"; runs: of
 *                   shuntd with these maps; generation, layout: of the maps; mode, program: null where it is not attached
 *   daemon stop   {pid,detach}                                       args {"detach":true}: nothing is left in the kernel
 *                   The answer comes before the end
 *   config show   {text,file}                                        the running configuration, with the weights in
 *                   force; it parses again. file: that shuntd reads at its start and reloads, an absolute path
 *   config reload {changes:["..."],text}                             args {"force":true}: what is removed is cut, not drained
 *   config apply  the same                                           args {"config":TEXT,"name","force":true}: name: of its
 *                   file, for the places of errors; required as the text is
 *   config diff   the same, and nothing is changed                   args {"config":TEXT,"name"}; without: shuntd's file
 * backend drain, undrain and set, flow reset and config reload, apply and diff, and daemon stop are for root, and for
 * members of the group that control.admins of the configuration names.
 */
#ifndef SHUNT_CONTROL_H
#define SHUNT_CONTROL_H

#define SHUNT_CONTROL_SOCKET "/run/shunt/shuntd.sock"

/* "code" of an error: also the CLI's exit status, but for the last. */
enum control_code {
	CONTROL_DONE = 0,
	CONTROL_REFUSED = 1, /* understood, but not possible: no such backend, not allowed, failed */
	CONTROL_MISUSE = 2, /* not understood: unknown object, command or argument */
	CONTROL_BUSY = 3, /* not now, but soon: the CLI asks again while it is patient; then it exits with 1 */
};

/*
 * A request's longest line, bytes, newline included. Longer ones are refused and the connection closed. Those of who may command
 * may be longer, for a configuration in it: as text of JSON one of 4 MiB has no more than twice as many bytes.
 */
#define CONTROL_REQUEST_MAX 65536
#define CONTROL_REQUEST_ROOT_MAX (2 * 4194304 + CONTROL_REQUEST_MAX)

/* Clients at a time, chosen. One more takes the place of the one that was silent longest; monitors keep theirs. */
#define CONTROL_CLIENTS_MAX 64
#define CONTROL_MONITORS_MAX 32

/* A reply not taken, or a request not finished, for so long closes the connection. */
#define CONTROL_PATIENCE_MS 5000

/* Bytes that may wait for a monitor that doesn't read; then it is cut off. */
#define CONTROL_MONITOR_BACKLOG_MAX 1048576

#endif
