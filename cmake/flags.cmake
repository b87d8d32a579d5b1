# Compiler flags of every target; the reasons stand in CONTRIBUTING.md.
add_compile_definitions(_GNU_SOURCE)
add_compile_options(
    -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes
    -Wmissing-prototypes -Wold-style-definition -Wvla -Wundef -Wcast-qual -Wwrite-strings
    -Wformat=2 -Wswitch-enum -Wnull-dereference -fno-strict-aliasing -fno-common)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wimplicit-fallthrough=5)
else()
    add_compile_options(-Wimplicit-fallthrough -Wno-string-conversion)
endif()
if(MR_WERROR)
    add_compile_options(-Werror)
endif()
if(MR_HARDEN)
    add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
        -fstack-clash-protection -fcf-protection=full -fno-delete-null-pointer-checks)
    add_link_options(-pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,-z,separate-code -Wl,--as-needed)
endif()
if(MR_FUZZ)
    add_compile_options(-fsanitize=fuzzer-no-link) # or the fuzzer would not see the libraries
endif()
if(MR_SANITIZE)
    add_compile_options(-fsanitize=${MR_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
        # What gcc believes of instrumented code is often wrong; the other builds keep these.
        add_compile_options(-Wno-format-truncation -Wno-maybe-uninitialized -Wno-null-dereference)
    endif()
    add_link_options(-fsanitize=${MR_SANITIZE})
endif()
