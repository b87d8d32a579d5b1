# bash completion for millrace: source it, or install it as
# /usr/share/bash-completion/completions/millrace. The words come from the program's own help.
_millrace()
{
    local word=${COMP_WORDS[COMP_CWORD]} help verbs
    verbs=$(millrace --help 2>/dev/null | sed -n 's/^  \([a-z][a-z ]*[a-z]\).*/\1/p')
    if [[ $word == -* ]]; then
        help=$(millrace "${COMP_WORDS[1]}" "${COMP_WORDS[2]}" --help 2>/dev/null ||
            millrace "${COMP_WORDS[1]}" --help 2>/dev/null)
        COMPREPLY=($(compgen -W "$(grep -o -- '--[a-z][a-z-]*' <<<"$help" | sort -u)" -- "$word"))
    elif ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "$(cut -d' ' -f1 <<<"$verbs" | sort -u)" -- "$word"))
    elif ((COMP_CWORD == 2)) && grep -q "^${COMP_WORDS[1]} " <<<"$verbs"; then
        COMPREPLY=($(compgen -W "$(sed -n "s/^${COMP_WORDS[1]} \([a-z]*\).*/\1/p" <<<"$verbs" | sort -u)" -- "$word"))
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == -o || ${COMP_WORDS[COMP_CWORD - 1]} == --output ]]; then
        COMPREPLY=($(compgen -W "human json" -- "$word"))
    elif ((COMP_CWORD == 3)) && [[ "${COMP_WORDS[1]}" == @(dlq|sub|source|worker) ]]; then
        local what=${COMP_WORDS[1]}
        [[ $what == dlq ]] && what=sub
        COMPREPLY=($(compgen -W "$(millrace "$what" list -o json 2>/dev/null | sed -n 's/^{"name":"\([^"]*\)".*/\1/p')" -- "$word"))
    else
        compopt -o default 2>/dev/null
    fi
}
complete -F _millrace millrace
