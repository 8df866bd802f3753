// The launcher's program for x86_64. Numbers: 72 fcntl, 59 execve, 1 write, 231 exit_group.
// A system call takes its number in rax and its arguments in rdi, rsi, rdx, r10, r8, r9; it returns
// in rax, where -4095 to -1 is an error, and destroys rcx and r11 only: syscall(2).
//
// rbx: the data   r12: next call, then next candidate   r13d: stage   r14d: last error of execve
// r15d: -EACCES once execve said so

    mov ebx, {data}

    // fcntl(report_fd, F_SETFD, FD_CLOEXEC)
    mov edi, dword ptr [rbx + {report_fd}]
    mov esi, 2
    mov edx, 1
    mov eax, 72
    syscall

    // The calls. They end where the candidates begin.
    lea r12, [rbx + {calls}]
2:  cmp r12, qword ptr [rbx + {candidates}]
    je 3f
    mov rax, qword ptr [r12]
    mov rdi, qword ptr [r12 + 8]
    mov rsi, qword ptr [r12 + 16]
    mov rdx, qword ptr [r12 + 24]
    mov r10, qword ptr [r12 + 32]
    mov r8, qword ptr [r12 + 40]
    mov r9, qword ptr [r12 + 48]
    mov r13d, dword ptr [r12 + 56]
    add r12, 64
    syscall
    cmp rax, -4095
    jb 2b
    mov ecx, dword ptr [r12 - 4] // the errno that this call may have
    add ecx, eax
    jz 2b
    jmp 7f

    // The candidates. A null pointer ends them.
3:  mov r13d, dword ptr [rbx + {exec_stage}]
    mov r14d, -2 // ENOENT, should there be none
    xor r15d, r15d
4:  mov rdi, qword ptr [r12]
    test rdi, rdi
    jz 6f
    add r12, 8
    mov rsi, qword ptr [rbx + {argv}]
    mov rdx, qword ptr [rbx + {envp}]
    mov eax, 59
    syscall
    cmp eax, -13 // EACCES
    je 5f
    mov r14d, eax
    cmp eax, -2 // ENOENT
    je 4b
    cmp eax, -20 // ENOTDIR
    je 4b
    cmp eax, -116 // ESTALE
    je 4b
    cmp eax, -19 // ENODEV
    je 4b
    cmp eax, -110 // ETIMEDOUT
    je 4b
    jmp 7f
5:  mov r15d, eax
    jmp 4b
6:  mov eax, r14d
    test r15d, r15d
    cmovnz eax, r15d

    // Report: eax is the negative error. write(report_fd, stage and errno, 8), again after EINTR.
7:  neg eax
    shl rax, 32
    or rax, r13
    push rax
8:  mov edi, dword ptr [rbx + {report_fd}]
    mov rsi, rsp
    mov edx, 8
    mov eax, 1
    syscall
    cmp eax, -4 // EINTR
    je 8b

    // exit_group(127)
    mov edi, 127
    mov eax, 231
    syscall
    ud2
