# mr_folder(NAME SOURCES … LIBS …): one static library libmr_NAME.a of the sources, with the
# libraries of the folders it may use and its third-party ones. Headers are included from the root.
function(mr_folder name)
    cmake_parse_arguments(F "" "" "SOURCES;LIBS" ${ARGN})
    add_library(mr_${name} STATIC ${F_SOURCES})
    target_include_directories(mr_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(mr_${name} PUBLIC ${F_LIBS})
endfunction()
