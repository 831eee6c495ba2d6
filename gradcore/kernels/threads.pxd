# A team of C threads that runs one function together and meets at barriers.
#
# A barrier spins for a moment (a phase of a training step lasts microseconds) and then sleeps on a condition
# variable, so that idle or outnumbered threads cost nothing: a pure spin barrier was 40 times slower with another
# job on the machine.  Workers block every signal: Python's handlers run in the calling thread only.
from libc.stdlib cimport calloc, free

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_attr_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*) noexcept nogil, void*)
    int pthread_join(pthread_t, void**)
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_destroy(pthread_mutex_t*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)
    int pthread_cond_init(pthread_cond_t*, void*)
    int pthread_cond_destroy(pthread_cond_t*)
    int pthread_cond_wait(pthread_cond_t*, pthread_mutex_t*)
    int pthread_cond_broadcast(pthread_cond_t*)

cdef extern from *:
    """
    #include <signal.h>
    #include <unistd.h>
    static inline long counter_load(long *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void counter_store(long *p, long v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    static inline long counter_add(long *p, long v) { return __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL); }
    static inline void pause_hint(void) {
    #if defined(__x86_64__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ __volatile__("yield");
    #endif
    }
    static inline int thread_without_signals(pthread_t *thread, void *(*run)(void *), void *argument) {
        sigset_t all, before;
        int failed;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(thread, NULL, run, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return failed;
    }
    static inline long process_id(void) { return (long)getpid(); }
    """
    long counter_load(long* p) nogil
    void counter_store(long* p, long v) nogil
    long counter_add(long* p, long v) nogil
    void pause_hint() nogil
    int thread_without_signals(pthread_t* thread, void* (*run)(void*) noexcept nogil, void* argument) nogil
    long process_id() nogil

cdef enum:
    SPINS = 2000               # about 20 microseconds

ctypedef void (*Job)(void* argument, int member, int size) noexcept nogil

cdef struct Member:
    Team* team
    int number
    pthread_t thread

cdef struct Team:
    int size
    long arrived
    long generation
    long process               # the process that started the workers: a forked child has none of them
    bint quit
    bint forked                # this is a child's copy: nobody waits on its lock, nobody may destroy it
    pthread_mutex_t lock
    pthread_cond_t wake
    Job job
    void* argument
    Member* members


cdef inline void meet(Team* team) noexcept nogil:
    # Nobody goes on before everybody is here.
    cdef long generation
    cdef int _spin
    if team.size == 1:
        return
    generation = counter_load(&team.generation)
    if counter_add(&team.arrived, 1) == team.size:
        counter_store(&team.arrived, 0)
        pthread_mutex_lock(&team.lock)
        counter_store(&team.generation, generation + 1)
        pthread_cond_broadcast(&team.wake)
        pthread_mutex_unlock(&team.lock)
        return
    for _spin in range(SPINS):
        if counter_load(&team.generation) != generation:
            return
        pause_hint()
    pthread_mutex_lock(&team.lock)
    while counter_load(&team.generation) == generation:
        pthread_cond_wait(&team.wake, &team.lock)
    pthread_mutex_unlock(&team.lock)


cdef inline void* serve(void* argument) noexcept nogil:
    cdef Member* me = <Member*>argument
    while True:
        meet(me.team)                              # a job is there
        if me.team.quit:
            return NULL
        me.team.job(me.team.argument, me.number, me.team.size)
        meet(me.team)                              # everybody is done


cdef inline Team* team_start(int size) noexcept nogil:
    # NULL when memory or threads cannot be had; size counts the calling thread.
    cdef Team* team = <Team*>calloc(1, sizeof(Team))
    cdef int i
    if team == NULL:
        return NULL
    team.size = size
    team.process = process_id()
    team.members = <Member*>calloc(size, sizeof(Member))
    if team.members == NULL:
        free(team)
        return NULL
    pthread_mutex_init(&team.lock, NULL)
    pthread_cond_init(&team.wake, NULL)
    for i in range(1, size):
        team.members[i].team = team
        team.members[i].number = i
        if thread_without_signals(&team.members[i].thread, serve, &team.members[i]) != 0:
            # Those that did start wait at a barrier of `size`; stand in for the missing ones to send them home.
            team.quit = True
            counter_add(&team.arrived, size - i)
            meet(team)
            team_free(team, i)
            return NULL
    return team


cdef inline void team_free(Team* team, int started) noexcept nogil:
    cdef int i
    for i in range(1, started):
        pthread_join(team.members[i].thread, NULL)
    if not team.forked:
        # (a condition variable copied by fork still counts the parent's waiters, and destroying it waits for them)
        pthread_mutex_destroy(&team.lock)
        pthread_cond_destroy(&team.wake)
    free(team.members)
    free(team)


cdef inline void adopt(Team* team) noexcept nogil:
    # After a fork the workers live in the parent only: the child goes on alone, to the same bits.
    if team.size > 1 and team.process != process_id():    # (alone there is nobody to miss, and asking takes a system call)
        team.process = process_id()
        team.size = 1
        team.forked = True


cdef inline void team_stop(Team* team) noexcept nogil:
    if team == NULL:
        return
    adopt(team)
    team.quit = True
    meet(team)
    team_free(team, team.size)


cdef inline void team_run(Team* team, Job job, void* argument) noexcept nogil:
    adopt(team)
    team.job = job
    team.argument = argument
    meet(team)
    job(argument, 0, team.size)
    meet(team)
    team.argument = NULL
