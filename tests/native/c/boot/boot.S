/* The boot sector: load the program that follows, go to 64-bit mode, switch on what XCR0 says.
 *
 * It stands in for an operating system that saves exactly these registers: XCR0 is 0xe7 for all
 * of AVX-512, 7 for AVX, 3 for SSE; 0 leaves OSXSAVE off.
 *
 * Source: Intel SDM volume 3, 9.8.5 (initializing IA-32e mode), and volume 1, 13.3. */
#define PROGRAM 0x8000       /* where boot.ld puts it */
#define READS 4              /* of 127 sectors each: 254 KiB */
#define PAGE_TABLES 0x200000 /* three of 4 KiB */
#define STACK 0x800000
#define CR4_BASE 0x620       /* PAE, OSFXSR, OSXMMEXCPT */
#define CR4_OSXSAVE 0x40000

        .code16
        .globl _start
_start: ljmp $0, $start
start:  xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov $0x7c00, %sp
        mov %dl, drive
        mov $READS, %cx
read:   push %cx
        mov $0x42, %ah               /* BIOS: extended read */
        mov drive, %dl
        mov $packet, %si
        int $0x13
        jc stop
        addw $127 * 32, segment
        addl $127, sector
        pop %cx
        loop read
        cli
        lgdt gdt_register
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmp $8, $protected
stop:   hlt

        .code32
protected:
        mov $16, %ax
        mov %ax, %ds
        mov %ax, %es
        mov %ax, %ss
        mov $PAGE_TABLES, %edi       /* the first GiB as it is, in pieces of 2 MiB */
        xor %eax, %eax
        mov $0xc00, %ecx
        rep stosl
        movl $PAGE_TABLES + 0x1003, PAGE_TABLES
        movl $PAGE_TABLES + 0x2003, PAGE_TABLES + 0x1000
        mov $PAGE_TABLES + 0x2000, %edi
        mov $0x83, %eax
piece:  mov %eax, (%edi)
        add $8, %edi
        add $0x200000, %eax
        cmp $0x40000083, %eax
        jb piece
        mov $CR4_BASE, %eax
        mov %eax, %cr4
        mov $PAGE_TABLES, %eax
        mov %eax, %cr3
        mov $0xc0000080, %ecx        /* EFER: long mode */
        rdmsr
        or $0x100, %eax
        wrmsr
        mov %cr0, %eax
        and $0xfffffffb, %eax        /* no emulation of the FPU */
        or $0x80000002, %eax         /* paging */
        mov %eax, %cr0
        ljmp $24, $long

        .code64
long:   mov $STACK, %rsp
#if XCR0
        mov $CR4_BASE + CR4_OSXSAVE, %eax
        mov %rax, %cr4
        xor %ecx, %ecx
        xor %edx, %edx
        mov $XCR0, %eax
        xsetbv
#endif
        mov $PROGRAM, %eax
        call *%rax
        hlt

        .align 4
packet: .byte 16, 0
        .word 127, 0
segment: .word PROGRAM / 16
sector: .long 1, 0
drive:  .byte 0
        .align 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff, 0x00af9a000000ffff
gdt_register:
        .word gdt_register - gdt - 1
        .long gdt
        .org 510
        .word 0xaa55
