/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agent_watch.bpf.c - the end of the engine, as its kernel sees it: a fatal signal delivered to, an exit of, or the
 * out-of-memory killer's choice of a watched process ends the engine's life in the map `agent`, and the reflector's next
 * answer says so. A crash is known before the process's memory is torn down, which takes half a second for each few GB.
 *
 * Decides whether an end is the engine's; shunt-agent says which processes it has, and begins the next life. Of several
 * main processes one may leave: it is asked to stop, or ends in good order, and the others go on. An object of its own: it
 * needs the kernel's types (BTF), the reflector doesn't.
 *
 * sched_process_exit precedes the end of the memory only since Linux 6.16; before, only exit() by the last thread is seen
 * late, since signals, and exit_group() by one thread of several, are seen by signal_deliver.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "agent_maps.bpf.h"
#include "shunt/agent.h"

const volatile __u64 worker_age_ns; /* the end of a younger worker is not the engine's */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, AGENT_MAX_WATCHED);
	__type(key, __u32);
	__type(value, struct watched);
} agent_watched SEC(".maps");

/* What is read of the kernel's types (include/linux/sched.h, sched/signal.h, signal_types.h); libbpf finds the offsets. */
typedef struct {
	int counter;
} atomic_t;
struct task_struct;
struct signal_struct {
	atomic_t live; /* threads that did not begin to exit */
	int group_exit_code;
	struct task_struct *group_exec_task; /* the thread that executes a program and kills the others for it */
	unsigned int flags;
} __attribute__((preserve_access_index));
struct task_struct {
	int tgid;
	int exit_code;
	struct signal_struct *signal;
} __attribute__((preserve_access_index));
struct sigaction {
	void *sa_handler;
} __attribute__((preserve_access_index));
struct k_sigaction {
	struct sigaction sa;
} __attribute__((preserve_access_index));

#define SIGNAL_GROUP_EXIT 0x04 /* include/linux/sched/signal.h */
#define SIGNAL_UNKILLABLE 0x40

/* Numbers of x86, arm and most others: include/uapi/asm-generic/signal.h. */
#define BIT(signal) (1ULL << (signal))
#define SIG_HUP 1
#define SIG_INT 2
#define SIG_KILL 9
#define SIG_PIPE 13
#define SIG_ALRM 14
#define SIG_TERM 15
#define SIG_CHLD 17
#define SIG_CONT 18
#define SIG_STOP 19
#define SIG_TSTP 20
#define SIG_TTIN 21
#define SIG_TTOU 22
#define SIG_URG 23
#define SIG_WINCH 28
/* signal(7): by default ignored, or they stop and continue the process. */
#define SIGNALS_HARMLESS                                                                                 \
	(BIT(SIG_CHLD) | BIT(SIG_CONT) | BIT(SIG_STOP) | BIT(SIG_TSTP) | BIT(SIG_TTIN) | BIT(SIG_TTOU) | \
	 BIT(SIG_URG) | BIT(SIG_WINCH))
#define SIGNALS_STOPPING (BIT(SIG_INT) | BIT(SIG_TERM)) /* caught, they mean "end in good order" */
#define SIGNALS_ASKING (BIT(SIG_HUP) | SIGNALS_STOPPING) /* somebody wants it to end */
#define SIGNALS_MILD (SIGNALS_ASKING | BIT(SIG_PIPE) | BIT(SIG_ALRM)) /* no fault of a worker that ends by them */

static __always_inline struct agent_word *word_find(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&agent, &zero);
}

/* From what wait(2) would return: the lowest 7 bits are the signal, the next byte the exit status. */
static __always_inline __u32 cause_of(int code)
{
	__u32 signal = code & 0x7f;

	return signal ? ENGINE_CAUSE(ENGINE_KILLED, signal) : ENGINE_CAUSE(ENGINE_EXITED, code >> 8 & 0xff);
}

static __always_inline int is_planned(__u32 cause)
{
	__u32 detail = ENGINE_CAUSE_DETAIL(cause);

	if (ENGINE_CAUSE_END(cause) == ENGINE_KILLED)
		return (SIGNALS_ASKING >> (detail & 63)) & 1;
	return cause == ENGINE_CAUSE(ENGINE_EXITED, 0);
}

/* A worker that ends cleanly, or is told to, is no fault; nor is a young one: a compiler, a question to the driver. */
static __always_inline int is_crash(const struct watched *w, __u32 cause, __u64 now)
{
	if (cause == ENGINE_CAUSE(ENGINE_EXITED, 0) || now - w->born_ns < worker_age_ns)
		return 0;
	return ENGINE_CAUSE_END(cause) != ENGINE_KILLED || !((SIGNALS_MILD >> (ENGINE_CAUSE_DETAIL(cause) & 63)) & 1);
}

struct bpf_map;
struct search {
	__u64 life;
	__u32 found;
};

static long main_find(struct bpf_map *map, const __u32 *tgid, const struct watched *w, struct search *s)
{
	if (w->life != s->life || (w->flags & (WATCHED_MAIN | WATCHED_LEAVING)) != WATCHED_MAIN)
		return 0;
	s->found = 1;
	return 1;
}

/* Whether the engine has a main process that doesn't leave. */
static __always_inline int others_go_on(__u64 life)
{
	struct search s = { .life = life };

	bpf_for_each_map_elem(&agent_watched, main_find, &s, 0);
	return s.found;
}

/* Marked before it looks: of two that leave at once, one finds nobody else. */
static __always_inline int main_leaves(struct watched *w)
{
	__sync_fetch_and_or(&w->flags, WATCHED_LEAVING);
	return others_go_on(w->life);
}

/* The worker's main process has left, or does, and with it its workers. */
static __always_inline int worker_leaves(const struct watched *w)
{
	__u32 tgid = w->main;
	const struct watched *main = bpf_map_lookup_elem(&agent_watched, &tgid);

	return (!main || (main->flags & (WATCHED_MAIN | WATCHED_LEAVING)) != WATCHED_MAIN) && others_go_on(w->life);
}

/* A watched process ends. */
static __always_inline void watched_end(struct watched *w, __u32 tgid, __u32 cause)
{
	struct agent_word *word = word_find();
	__u64 now = bpf_ktime_get_ns(), life = w->life;

	if (!word)
		return;
	if (is_planned(cause) || w->flags & WATCHED_LEAVING || word->stopping == ENGINE_LIFE_NUMBER(life))
		cause |= ENGINE_CAUSE_PLANNED;
	if (!(w->flags & WATCHED_MAIN)) {
		if (!is_crash(w, cause & ~ENGINE_CAUSE_PLANNED, now) || worker_leaves(w))
			return;
		cause |= ENGINE_CAUSE_WORKER;
	} else if (cause & ENGINE_CAUSE_PLANNED && main_leaves(w)) {
		return;
	}
	if (__sync_val_compare_and_swap(&word->life, life, life | cause) != life)
		return;
	word->ended_tgid = tgid;
	word->ended_ns = now;
}

static __always_inline __u32 current_tgid(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

/* int sig, struct kernel_siginfo *info, struct k_sigaction *ka; in the thread that gets it: kernel/signal.c, get_signal(). */
SEC("raw_tp/signal_deliver")
int watch_signal(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tgid = current_tgid(), number = (__u32)ctx->args[0] & 63;
	struct watched *w = bpf_map_lookup_elem(&agent_watched, &tgid);
	struct k_sigaction *action = (void *)ctx->args[2];
	struct signal_struct *group;
	struct agent_word *word;
	void *handler;
	__u32 flags;

	if (!w)
		return 0;
	group = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), signal);
	flags = BPF_CORE_READ(group, flags);
	if (number == SIG_KILL) {
		if (flags & SIGNAL_GROUP_EXIT)
			watched_end(w, tgid, cause_of(BPF_CORE_READ(group, group_exit_code)));
		else if (!BPF_CORE_READ(group, group_exec_task))
			watched_end(w, tgid, cause_of(SIG_KILL));
		return 0;
	}
	handler = BPF_CORE_READ(action, sa.sa_handler);
	if (handler) { /* not SIG_DFL */
		word = word_find();
		if (word && handler != (void *)1 && w->flags & WATCHED_MAIN && (SIGNALS_STOPPING >> number) & 1 &&
		    !main_leaves(w))
			word->stopping = ENGINE_LIFE_NUMBER(w->life);
		return 0;
	}
	if (!((SIGNALS_HARMLESS >> number) & 1) && !(flags & SIGNAL_UNKILLABLE))
		watched_end(w, tgid, cause_of(number));
	return 0;
}

/* struct task_struct *p, and since 6.16 bool group_dead, which is signal->live == 0; in p: kernel/exit.c, do_exit(). */
SEC("raw_tp/sched_process_exit")
int watch_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)ctx->args[0];
	__u32 tgid = current_tgid();
	struct watched *w = bpf_map_lookup_elem(&agent_watched, &tgid);
	struct signal_struct *group;
	int code;

	if (!w)
		return 0;
	group = BPF_CORE_READ(task, signal);
	if (BPF_CORE_READ(group, live.counter))
		return 0;
	code = BPF_CORE_READ(group, flags) & SIGNAL_GROUP_EXIT ? BPF_CORE_READ(group, group_exit_code)
							       : BPF_CORE_READ(task, exit_code);
	watched_end(w, tgid, cause_of(code));
	bpf_map_delete_elem(&agent_watched, &tgid); /* its number may be another's now */
	return 0;
}

/* struct task_struct *parent, *child; in the parent: kernel/fork.c, kernel_clone(). */
SEC("raw_tp/sched_process_fork")
int watch_fork(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tgid = current_tgid(), child = BPF_CORE_READ((struct task_struct *)ctx->args[1], tgid);
	struct watched *w, worker = { .born_ns = bpf_ktime_get_ns(), .flags = WATCHED_FOLLOW };

	if (child == tgid)
		return 0;
	w = bpf_map_lookup_elem(&agent_watched, &tgid);
	if (!w || !(w->flags & WATCHED_FOLLOW)) {
		/* Who had its number before may have ended unseen, while shunt-agent told of it. */
		bpf_map_delete_elem(&agent_watched, &child);
		return 0;
	}
	worker.life = w->life;
	worker.main = w->main;
	bpf_map_update_elem(&agent_watched, &child, &worker, BPF_ANY);
	return 0;
}

/*
 * struct task_struct *task, uid_t uid; before 6.8 int pid. Not in the victim, but in whoever wanted memory:
 * mm/oom_kill.c, mark_oom_victim(), after the victim was sent SIGKILL, so the other program may have seen it die already.
 */
SEC("raw_tp/mark_victim")
int watch_oom(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tgid = ctx->args[0] >> 32 ? (__u32)BPF_CORE_READ((struct task_struct *)ctx->args[0], tgid)
					: (__u32)ctx->args[0];
	struct watched *w = bpf_map_lookup_elem(&agent_watched, &tgid);
	__u32 cause = ENGINE_CAUSE(ENGINE_OOM_VICTIM, 0), killed = ENGINE_CAUSE(ENGINE_KILLED, SIG_KILL);
	struct agent_word *word = word_find();
	__u64 life;

	if (!w || !word)
		return 0;
	life = w->life;
	watched_end(w, tgid, cause);
	if (word->ended_tgid != tgid)
		return 0;
	if (!(w->flags & WATCHED_MAIN)) {
		cause |= ENGINE_CAUSE_WORKER;
		killed |= ENGINE_CAUSE_WORKER;
	}
	__sync_val_compare_and_swap(&word->life, life | killed, life | cause);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
