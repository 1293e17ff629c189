"""Objects that programs allocate, keep in maps, and put into lists and trees: our verdict and count against the kernel's."""

# ruff: noqa: E501 - programs in C, one a line
from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from judged import assert_agrees
from test_kernel_objects import MORE
from test_objects import PRELUDE

from ebpfkit.elf import open_object

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

    from ebpfkit.elf.model import ObjectFile

TYPES = """
#define KSYM __attribute__((section(".ksyms")))
#define KPTR __attribute__((btf_type_tag("kptr")))
#define LOOSE __attribute__((btf_type_tag("kptr_untrusted")))
#define HOLDS(t, m) __attribute__((btf_decl_tag("contains:" #t ":" #m)))
#define container_of(p, t, m) ((t *)((void *)(p) - __builtin_offsetof(t, m)))
struct bpf_spin_lock { u32 val; };
struct bpf_list_head { u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_list_node { u64 opaque[3]; } __attribute__((aligned(8)));
struct bpf_rb_root { u64 opaque[2]; } __attribute__((aligned(8)));
struct bpf_rb_node { u64 opaque[4]; } __attribute__((aligned(8)));
struct bpf_refcount { u32 opaque[1]; } __attribute__((aligned(4)));
extern void *bpf_obj_new_impl(u64, void *) KSYM; extern void bpf_obj_drop_impl(void *, void *) KSYM;
extern void *bpf_percpu_obj_new_impl(u64, void *) KSYM; extern void bpf_percpu_obj_drop_impl(void *, void *) KSYM;
extern void *bpf_refcount_acquire_impl(void *, void *) KSYM;
extern int bpf_list_push_front_impl(struct bpf_list_head *, struct bpf_list_node *, void *, u64) KSYM;
extern int bpf_list_push_back_impl(struct bpf_list_head *, struct bpf_list_node *, void *, u64) KSYM;
extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *) KSYM;
extern struct bpf_list_node *bpf_list_front(struct bpf_list_head *) KSYM;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *, struct bpf_rb_node *, _Bool (*)(struct bpf_rb_node *, const struct bpf_rb_node *), void *, u64) KSYM;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *, struct bpf_rb_node *) KSYM;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *) KSYM;
extern struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *, struct bpf_rb_node *) KSYM;
extern struct task_struct *bpf_task_acquire(struct task_struct *) KSYM; extern void bpf_task_release(struct task_struct *) KSYM;
extern void *bpf_rdonly_cast(const void *, u32) KSYM; extern void *bpf_cast_to_kern_ctx(void *) KSYM;
static void *(*xchg)(void *, void *) = (void *)194;
static void (*lock)(void *) = (void *)93;
static void (*unlock)(void *) = (void *)94;
#define new(T) ((T *)bpf_obj_new_impl(__builtin_btf_type_id(*(T *)0, 0), 0))
#define drop(p) bpf_obj_drop_impl(p, 0)
#define share(p) ((typeof(p))bpf_refcount_acquire_impl(p, 0))
#define front(h, n) bpf_list_push_front_impl(h, n, 0, 0)
#define back(h, n) bpf_list_push_back_impl(h, n, 0, 0)
#define add(r, n, l) bpf_rbtree_add_impl(r, n, l, 0, 0)
struct plain { u64 a, b; };
struct item { u64 key; struct bpf_list_node node; u64 data; };
struct other { u64 key; struct bpf_list_node node; struct bpf_spin_lock lock; };
struct leaf { u64 key; struct bpf_rb_node node; };
struct shared { u64 key; struct bpf_rb_node node; struct bpf_refcount count; };
struct home { u64 n; struct bpf_spin_lock lock; struct bpf_list_head head HOLDS(item, node); };
struct grove { struct bpf_spin_lock lock; struct bpf_rb_root root HOLDS(leaf, node); };
struct common { struct bpf_spin_lock lock; struct bpf_rb_root root HOLDS(shared, node); };
struct kept { u64 n; struct task_struct LOOSE *loose; struct task_struct KPTR *task; struct plain KPTR *plain; u32 last; };
struct { __uint(type, 1); __uint(max_entries, 1); __type(key, struct item); __type(value, struct leaf); } unused SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 1); __type(key, struct shared); __type(value, struct other); } unused_too SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, struct home); } homes SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, struct grove); } groves SEC(".maps");
struct { __uint(type, 2); __uint(max_entries, 4); __type(key, u32); __type(value, struct common); } commons SEC(".maps");
struct { __uint(type, 1); __uint(max_entries, 4); __type(key, u32); __type(value, struct kept); } kepts SEC(".maps");
struct bpf_spin_lock global_lock SEC(".data.A");
struct bpf_list_head global_list HOLDS(item, node) SEC(".data.A");
static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b) { return container_of(a, struct leaf, node)->key < container_of(b, struct leaf, node)->key; }
static _Bool less_shared(struct bpf_rb_node *a, const struct bpf_rb_node *b) { return container_of(a, struct shared, node)->key < container_of(b, struct shared, node)->key; }
"""
HOME = "struct home *h = lookup(&homes, &k); if (!h) return 0;"
GROVE = "struct grove *g = lookup(&groves, &k); if (!g) return 0;"
COMMON = "struct common *g = lookup(&commons, &k); if (!g) return 0;"
ITEM = "struct item *p = new(struct item); if (!p) return 0;"
LEAF = "struct leaf *p = new(struct leaf); if (!p) return 0;"
SHARED = "struct shared *p = new(struct shared); if (!p) return 0;"
FIRST = f"{GROVE} lock(&g->lock); struct bpf_rb_node *n = bpf_rbtree_first(&g->root);"

# name -> (verdict, body of a classifier)
OBJECTS = {
    "made and dropped": (
        "accept",
        "struct plain *p = new(struct plain); if (!p) return 0; p->a = k; p->b = p->a; drop(p);",
    ),
    "made and forgotten": ("reject", "struct plain *p = new(struct plain); if (!p) return 0; p->a = 3;"),
    "not tested": ("reject", "struct plain *p = new(struct plain); p->a = 3; drop(p);"),
    "dropped, not tested": ("reject", "struct plain *p = new(struct plain); drop(p);"),
    "used after the drop": ("reject", "struct plain *p = new(struct plain); if (!p) return 0; drop(p); return p->a;"),
    "behind its end": ("reject", f"{ITEM} *(u64 *)((char *)p + 40) = 1; drop(p);"),
    "its node written": ("reject", f"{ITEM} *(u64 *)&p->node = 1; drop(p);"),
    "dropped by a member": ("reject", f"{ITEM} drop(&p->data);"),
    "the context dropped": ("reject", "drop(ctx);"),
    "made under a lock": ("reject", f"{HOME} lock(&h->lock); {ITEM} unlock(&h->lock); drop(p);"),
    "of no type": ("reject", "void *p = bpf_obj_new_impl(0, 0); if (p) drop(p);"),
    "one for each CPU": (
        "accept",
        "void *p = bpf_percpu_obj_new_impl(__builtin_btf_type_id(*(struct plain *)0, 0), 0); if (p) bpf_percpu_obj_drop_impl(p, 0);",
    ),
    "one for each CPU dropped as another": (
        "reject",
        "void *p = bpf_percpu_obj_new_impl(__builtin_btf_type_id(*(struct plain *)0, 0), 0); if (p) drop(p);",
    ),
    "with a lock inside": (
        "accept",
        "struct other *p = new(struct other); if (!p) return 0; lock(&p->lock); p->key++; unlock(&p->lock); drop(p);",
    ),
    "pushed": ("accept", f"{HOME} {ITEM} lock(&h->lock); front(&h->head, &p->node); unlock(&h->lock);"),
    "pushed with a pointer as its offset": (
        "reject",
        f"{HOME} {ITEM} lock(&h->lock); bpf_list_push_back_impl(&h->head, &p->node, 0, (u64)h); unlock(&h->lock);",
    ),
    "added with a pointer as its offset": (
        "reject",
        f"{GROVE} {LEAF} lock(&g->lock); bpf_rbtree_add_impl(&g->root, &p->node, less, 0, (u64)g); unlock(&g->lock);",
    ),
    "pushed without the lock": ("reject", f"{HOME} {ITEM} front(&h->head, &p->node);"),
    "pushed under another lock": (
        "reject",
        f"{HOME} u32 k2 = 2; struct home *j = lookup(&homes, &k2); if (!j) return 0; {ITEM} lock(&j->lock); front(&h->head, &p->node); unlock(&j->lock);",
    ),
    "pushed and used": (
        "accept",
        f"{HOME} {ITEM} lock(&h->lock); back(&h->head, &p->node); p->data = 4; unlock(&h->lock);",
    ),
    "pushed and used too late": (
        "reject",
        f"{HOME} {ITEM} lock(&h->lock); back(&h->head, &p->node); unlock(&h->lock); return p->data;",
    ),
    "pushed twice": (
        "reject",
        f"{HOME} {ITEM} lock(&h->lock); back(&h->head, &p->node); back(&h->head, &p->node); unlock(&h->lock);",
    ),
    "of another type pushed": (
        "reject",
        f"{HOME} struct other *p = new(struct other); if (!p) return 0; lock(&h->lock); back(&h->head, &p->node); unlock(&h->lock);",
    ),
    "pushed by no node": (
        "reject",
        f"{HOME} {ITEM} lock(&h->lock); back(&h->head, (void *)&p->data); unlock(&h->lock);",
    ),
    "pushed onto no list": (
        "reject",
        f"{HOME} {ITEM} lock(&h->lock); back((void *)&h->n, &p->node); unlock(&h->lock);",
    ),
    "popped": (
        "accept",
        f"{HOME} lock(&h->lock); struct bpf_list_node *n = bpf_list_pop_front(&h->head); unlock(&h->lock); if (n) drop(container_of(n, struct item, node));",
    ),
    "popped and forgotten": (
        "reject",
        f"{HOME} lock(&h->lock); struct bpf_list_node *n = bpf_list_pop_front(&h->head); unlock(&h->lock); if (n) return container_of(n, struct item, node)->key;",
    ),
    "popped and pushed": (
        "accept",
        f"{HOME} lock(&h->lock); struct bpf_list_node *n = bpf_list_pop_front(&h->head); if (n) back(&h->head, n); unlock(&h->lock);",
    ),
    "popped in a loop": (
        "accept",
        f"{HOME}\n#pragma clang loop unroll(disable)\nfor (int i = 0; i < 5; i++) {{ lock(&h->lock); struct bpf_list_node *n = bpf_list_pop_front(&h->head); unlock(&h->lock); if (!n) return 0; drop(container_of(n, struct item, node)); }}",
    ),
    "looked at": (
        "accept",
        f"{HOME} lock(&h->lock); struct bpf_list_node *n = bpf_list_front(&h->head); if (n) k = container_of(n, struct item, node)->data; unlock(&h->lock); return k;",
    ),
    "looked at too late": (
        "reject",
        f"{HOME} lock(&h->lock); struct bpf_list_node *n = bpf_list_front(&h->head); unlock(&h->lock); if (n) k = container_of(n, struct item, node)->data; return k;",
    ),
    "the list itself read": ("reject", f"{HOME} return *(u64 *)&h->head;"),
    "in a global list": ("accept", f"{ITEM} lock(&global_lock); back(&global_list, &p->node); unlock(&global_lock);"),
    "in a global list without the lock": ("reject", f"{ITEM} back(&global_list, &p->node);"),
    "added": ("accept", f"{GROVE} {LEAF} p->key = 7; lock(&g->lock); add(&g->root, &p->node, less); unlock(&g->lock);"),
    "added without the lock": ("reject", f"{GROVE} {LEAF} add(&g->root, &p->node, less);"),
    "removed": (
        "accept",
        f"{FIRST} if (!n) {{ unlock(&g->lock); return 1; }} n = bpf_rbtree_remove(&g->root, n); unlock(&g->lock); if (n) drop(container_of(n, struct leaf, node));",
    ),
    "removed, not tested": (
        "reject",
        f"{FIRST} n = bpf_rbtree_remove(&g->root, n); unlock(&g->lock); if (n) drop(container_of(n, struct leaf, node));",
    ),
    "removed and still used": (
        "accept",
        f"{FIRST} if (!n) {{ unlock(&g->lock); return 1; }} struct bpf_rb_node *m = bpf_rbtree_remove(&g->root, n); k = container_of(n, struct leaf, node)->key; unlock(&g->lock); if (m) drop(container_of(m, struct leaf, node)); return k;",
    ),
    "the one to the left": (
        "accept",
        f"{FIRST} if (n) n = bpf_rbtree_left(&g->root, n); if (n) k = container_of(n, struct leaf, node)->key; unlock(&g->lock); return k;",
    ),
    "shared": ("accept", f"{SHARED} struct shared *q = share(p); q->key = 4; drop(p); drop(q);"),
    "shared and forgotten": ("reject", f"{SHARED} struct shared *q = share(p); drop(p);"),
    "shared without a count": ("reject", f"{ITEM} struct item *q = share(p); drop(p); drop(q);"),
    "shared with a tree": (
        "accept",
        f"{COMMON} {SHARED} struct shared *q = share(p); lock(&g->lock); add(&g->root, &p->node, less_shared); p->key = 3; unlock(&g->lock); drop(q);",
    ),
    "shared out of a tree": (
        "accept",
        f"{COMMON} {SHARED} lock(&g->lock); add(&g->root, &p->node, less_shared); struct shared *q = share(p); unlock(&g->lock); if (q) drop(q);",
    ),
    "shared out of a tree, not tested": (
        "reject",
        f"{COMMON} {SHARED} lock(&g->lock); add(&g->root, &p->node, less_shared); struct shared *q = share(p); unlock(&g->lock); drop(q);",
    ),
    "the context as the kernel's": ("accept", "struct sk_buff *s = bpf_cast_to_kern_ctx(ctx); return s->len;"),
}
KEPT = "u32 k = 3; struct kept *v = lookup(&kepts, &k); if (!v) return 0;"
# name -> (verdict, body of a program at a tracepoint)
KPTRS = {
    "beside it": ("accept", "v->n++; v->last = 3;"),
    "loaded without trust": ("accept", "struct task_struct *q = v->loose; return q ? q->pid : 0;"),
    "loaded, not tested": ("reject", "struct task_struct *q = v->loose; return q->pid;"),
    "loaded with a reference": ("accept", "struct task_struct *q = v->task; return q ? q->real_parent->pid : 0;"),
    "stored with a reference": ("reject", "v->task = p;"),
    "stored without": ("accept", "v->loose = p;"),
    "zero stored": ("accept", "v->loose = 0;"),
    "a number stored": ("reject", "*(volatile u64 *)&v->loose = ctx[0];"),
    "another type stored": ("reject", "v->loose = (void *)p->mm;"),
    "half of it": ("reject", "*(volatile u32 *)&v->loose = 0;"),
    "updated atomically": ("reject", "__sync_fetch_and_add((u64 *)&v->loose, 1);"),
    "by a variable offset": ("reject", "return ((u64 *)v)[ctx[0] & 3];"),
    "read by a helper": ("reject", "update(&kepts, &k, v, 0);"),
    "taken and forgotten": ("reject", "xchg(&v->task, 0);"),
    "taken from the wrong kind": ("reject", "xchg(&v->loose, 0);"),
    "taken from elsewhere": ("reject", "xchg(&v->n, 0);"),
    "put without a reference": ("reject", "xchg(&v->task, p);"),
    "put with one": ("accept", "struct task_struct *t = bpf_task_acquire(p); if (!t) return 0; t = xchg(&v->task, t); if (t) bpf_task_release(t);"),
    "put, of another type": ("reject", "struct task_struct *t = bpf_task_acquire(p); if (!t) return 0; t = xchg(&v->plain, t); if (t) bpf_task_release(t);"),
    "put, not tested": ("reject", "struct task_struct *t = xchg(&v->task, 0); t = xchg(&v->task, t); if (t) bpf_task_release(t);"),
    "used after it was put": ("reject", "struct task_struct *t = bpf_task_acquire(p); if (!t) return 0; struct task_struct *o = xchg(&v->task, t); if (o) bpf_task_release(o); hide(t); return t->pid;"),
    "acquired from the map": ("accept", "struct task_struct *t = v->task; if (!t) return 0; t = bpf_task_acquire(t); if (t) bpf_task_release(t);"),
    "an object of ours": ("accept", "struct plain *q = new(struct plain); if (!q) return 0; q = xchg(&v->plain, q); if (q) drop(q);"),
    "an object of ours, read": ("accept", "struct plain *q = v->plain; if (!q) return 0; q->b = 1; return q->a;"),
    "an object of ours, dropped": ("reject", "struct plain *q = v->plain; if (q) drop(q);"),
    "a number as a task": ("accept", "struct task_struct *t = bpf_rdonly_cast((void *)ctx[0], __builtin_btf_type_id(*(struct task_struct *)0, 1)); return t->pid + t->real_parent->pid;"),
    "a number as memory": ("accept", "int *t = bpf_rdonly_cast((void *)ctx[0], 0); return *t;"),
}  # fmt: skip


def name_of(name: str) -> str:
    return "prog_" + "".join(letter if letter.isalnum() else "_" for letter in name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ObjectFile:
    pytest.importorskip("ziglang")
    return build_objects(tmp_path_factory.mktemp("objects"))


def build_objects(folder: Path) -> ObjectFile:
    """All the programs, in one object that clang 22 made (older ones write no type tags)."""
    from verifier_kernel import running_types

    text = PRELUDE + MORE + TYPES
    for name, (_, body) in OBJECTS.items():
        text += f'SEC("tc") int {name_of(name)}(void *ctx) {{ u32 k = 1; {body} return 0; }}\n'
    for name, (_, body) in KPTRS.items():
        text += f'SEC("tp_btf/sched_switch") int {name_of(name)}(u64 *ctx) {{ struct task_struct *p = (void *)ctx[1]; {KEPT} {body} return 0; }}\n'
    (folder / "prog.c").write_text(text)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", "-O2", "-g", "-w", "-mcpu=v3"]
    subprocess.run([*command, "-c", folder / "prog.c", "-o", folder / "prog.o"], check=True)
    return open_object(Path(folder / "prog.o"), target_btf=running_types())


@pytest.mark.kernel
@pytest.mark.parametrize("name", [*OBJECTS, *KPTRS])
def test_allocated_objects(name: str, oracle: KernelOracle, built: ObjectFile) -> None:
    from verifier_kernel import running_types

    verdict = (OBJECTS.get(name) or KPTRS[name])[0]
    assert_agrees(built.programs[name_of(name)], verdict, oracle, running_types())
