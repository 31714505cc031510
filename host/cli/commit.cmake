# Writes the source file OUT, which names the commit of the sources in SOURCE; only if it says
# something else, so that nothing is compiled anew. Run at every build:
#   cmake -DSOURCE=DIRECTORY -DOUT=FILE -P commit.cmake
set(commit "")
if(EXISTS "${SOURCE}/.git")  # else git might find a repository that the sources lie in by chance
  # Whoever builds the sources trusts them, though another user may own them.
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0
      git -c "safe.directory=*" -C "${SOURCE}" describe --always --abbrev=12 --dirty=-changed
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(text "#include \"host/cli/version.h\"

std::string mnist::cli::build_commit() {
  return \"${commit}\";
}
")
set(old "")
if(EXISTS "${OUT}")
  file(READ "${OUT}" old)
endif()
if(NOT old STREQUAL text)
  file(WRITE "${OUT}" "${text}")
endif()
