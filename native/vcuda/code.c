// Reads compiled code for the names of its kernels: cubins (ELF) and PTX. Nothing is compiled; of PTX the target and the
// instructions' names are looked at, so that a broken text is refused. Fat binaries are refused.
#include <ctype.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "vcuda.h"

enum { MACHINE_CUDA = 190 }; // EM_CUDA

// add_name appends a name and a newline to text, which is allocated anew.
static bool add_name(char **text, const char *name, size_t length) {
    size_t had = strlen(*text);
    char *grown = realloc(*text, had + length + 2);
    if (!grown) return false;
    memcpy(grown + had, name, length);
    memcpy(grown + had + length, "\n", 2);
    *text = grown;
    return true;
}

// cubin_entries takes the sections .text.NAME. The architecture is in the flags: since version 8 of the ABI in the second
// byte, before in the first (seen in what NVRTC 13.5 and 12.9 write).
static char *cubin_entries(const unsigned char *image, int *error) {
    Elf64_Ehdr header;
    memcpy(&header, image, sizeof header);
    *error = cudaErrorInvalidKernelImage;
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != MACHINE_CUDA || header.e_shentsize != sizeof(Elf64_Shdr) ||
        header.e_shstrndx >= header.e_shnum) return NULL;
    unsigned sm = header.e_ident[EI_ABIVERSION] >= 8 ? header.e_flags >> 8 & 0xff : header.e_flags & 0xff;
    *error = cudaErrorNoKernelImageForDevice;
    if (sm / 10 != COMPUTE_MAJOR || sm % 10 > COMPUTE_MINOR) return NULL;
    const unsigned char *sections = image + header.e_shoff;
    Elf64_Shdr names, section;
    memcpy(&names, sections + header.e_shstrndx * sizeof names, sizeof names);
    *error = cudaErrorMemoryAllocation;
    char *out = strdup("\n");
    for (unsigned i = 0; out && i < header.e_shnum; i++) {
        memcpy(&section, sections + i * sizeof section, sizeof section);
        const char *name = (const char *)image + names.sh_offset + section.sh_name;
        if (!strncmp(name, ".text.", 6) && !add_name(&out, name + 6, strlen(name + 6))) {
            free(out);
            return NULL;
        }
    }
    if (out) *error = 0;
    return out;
}

// instructions are those of the PTX ISA 9.0, without those of textures, surfaces and matrices.
static const char instructions[] =
    " abs activemask add addc and applypriority atom bar barrier bfe bfi bfind bmsk bra brev brkpt brx call clz cnot copysign cos cp "
    "createpolicy cvt cvta discard div dp2a dp4a elect ex2 exit fence fma fns griddepcontrol isspacep istypep ld ldu lg2 lop3 mad "
    "mad24 madc mapa match max mbarrier membar min mov mul mul24 multimem nanosleep neg not or pmevent popc prefetch prefetchu prmt "
    "rcp red redux rem ret rsqrt sad selp set setmaxnreg setp shf shfl shl shr sin slct sqrt st stackrestore stacksave sub subc szext "
    "tanh testp trap vote xor ";

// known_instruction looks at a statement of PTX, trimmed on the left: a directive, an instruction with or without a
// predicate, or operands that follow a brace, which do not begin with a letter.
static bool known_instruction(const char *s) {
    static const char blanks[] = " \t\r\n";
    if (*s == '@') s += strcspn(s, blanks), s += strspn(s, blanks);
    if (!isalpha((unsigned char)*s)) return true;
    char word[32];
    snprintf(word, sizeof word, " %.*s ", (int)strcspn(s, " \t\r\n.;"), s);
    return strstr(instructions, word) != NULL;
}

// blank_comments replaces them by blanks, so that no name in one counts.
static void blank_comments(char *s) {
    while ((s = strchr(s, '/'))) {
        size_t n = s[1] == '/' ? strcspn(s, "\n") : 1;
        if (s[1] == '*') n = strstr(s + 2, "*/") ? (size_t)(strstr(s + 2, "*/") + 2 - s) : strlen(s);
        if (n > 1) memset(s, ' ', n);
        s += n;
    }
}

// good_statements tells whether each statement is known. It cuts text at their ends.
static bool good_statements(char *text) {
    for (char *at = text, *end;; at = end + 1) {
        at += strspn(at, " \t\r\n");
        end = at + strcspn(at, ";{}:");
        while (end[0] == ':' && end[1] == ':') end += 2 + strcspn(end + 2, ";{}:"); // a part of a name such as ld.global.L2::128B
        char cut = *end;
        *end = 0;
        if (cut != ':' && !known_instruction(at)) return false; // before a colon is a label
        if (!cut) return true;
    }
}

// good_target tells whether code for the target can be compiled for this device.
static bool good_target(const char *text) {
    const char *target = strstr(text, ".target");
    int sm = 0;
    return target && sscanf(target, ".target sm_%d", &sm) == 1 && sm >= 50 && sm <= COMPUTE_MAJOR * 10 + COMPUTE_MINOR;
}

static char *ptx_entries(const char *image, int *error) {
    char *text = strdup(image), *out = strdup("\n");
    bool room = text && out;
    if (room) {
        blank_comments(text);
        for (const char *s = text; room && (s = strstr(s, ".entry"));) {
            s += 6 + strspn(s + 6, " \t\r\n");
            room = add_name(&out, s, strcspn(s, " \t\r\n("));
        }
    }
    *error = !room ? cudaErrorMemoryAllocation : !good_target(text) || !good_statements(text) ? cudaErrorInvalidPtx : 0;
    free(text);
    if (*error) free(out);
    return *error ? NULL : out;
}

char *code_entries(const void *image, int *error) {
    if (!memcmp(image, ELFMAG, SELFMAG)) return cubin_entries(image, error);
    const char *text = image;
    const char *version = text + strspn(text, " \t\r\n");
    while (!strncmp(version, "//", 2)) version += strcspn(version, "\n"), version += strspn(version, " \t\r\n");
    if (!strncmp(version, ".version", 8)) return ptx_entries(image, error);
    *error = cudaErrorInvalidKernelImage;
    return NULL;
}
