// The launcher's program for aarch64. Numbers: 25 fcntl, 221 execve, 64 write, 94 exit_group.
// A system call takes its number in x8 and its arguments in x0 to x5; it returns in x0, where -4095
// to -1 is an error, and leaves all other registers alone: syscall(2).
//
// x19: the data   x20: next call, then next candidate   w21: stage   w22: last error of execve
// w23: EACCES once execve said so

    mov w19, #{data}

    // fcntl(report_fd, F_SETFD, FD_CLOEXEC)
    ldr w0, [x19, #{report_fd}]
    mov x1, #2
    mov x2, #1
    mov x8, #25
    svc #0

    // The calls. They end where the candidates begin.
    add x20, x19, #{calls}
2:  ldr x9, [x19, #{candidates}]
    cmp x20, x9
    b.eq 3f
    ldp x8, x0, [x20]
    ldp x1, x2, [x20, #16]
    ldp x3, x4, [x20, #32]
    ldr x5, [x20, #48]
    ldr w21, [x20, #56]
    add x20, x20, #64
    svc #0
    cmn x0, #4095 // carries for -4095 to -1
    b.cc 2b
    ldr w9, [x20, #-4] // the errno that this call may have
    neg w0, w0
    cmp w9, w0
    b.eq 2b
    b 7f

    // The candidates. A null pointer ends them.
3:  ldr w21, [x19, #{exec_stage}]
    mov w22, #2 // ENOENT, should there be none
    mov w23, #0
4:  ldr x0, [x20], #8
    cbz x0, 6f
    ldr x1, [x19, #{argv}]
    ldr x2, [x19, #{envp}]
    mov x8, #221
    svc #0
    neg w0, w0
    cmp w0, #13 // EACCES
    b.eq 5f
    mov w22, w0
    cmp w0, #2 // ENOENT
    b.eq 4b
    cmp w0, #20 // ENOTDIR
    b.eq 4b
    cmp w0, #116 // ESTALE
    b.eq 4b
    cmp w0, #19 // ENODEV
    b.eq 4b
    cmp w0, #110 // ETIMEDOUT
    b.eq 4b
    b 7f
5:  mov w23, w0
    b 4b
6:  cmp w23, #0
    csel w0, w22, w23, eq

    // Report: w0 is the error. write(report_fd, stage and errno, 8), again after EINTR.
7:  sub sp, sp, #16
    stp w21, w0, [sp]
8:  ldr w0, [x19, #{report_fd}]
    mov x1, sp
    mov x2, #8
    mov x8, #64
    svc #0
    cmn w0, #4 // EINTR
    b.eq 8b

    // exit_group(127)
    mov x0, #127
    mov x8, #94
    svc #0
    brk #1
